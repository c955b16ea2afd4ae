"""Makes the embedded text sample: openings of public-domain novels, one sentence a line.

    python benchmarks/make_text_sample.py NOVELS -o src/demo_bert/data/sample_text

NOVELS is the directory `corpus/` of computationalstylistics/100_english_novels. The result is in
the repository; this program is kept so that it can be made again.
"""

import argparse
import re
from pathlib import Path

NOVELS = {
    "Burnett_Garden_1911": "Frances Hodgson Burnett, The Secret Garden, 1911",
    "Cbronte_Jane_1847": "Charlotte Bronte, Jane Eyre, 1847",
    "Chesterton_Innocence_1911": "G. K. Chesterton, The Innocence of Father Brown, 1911",
    "Conrad_Nostromo_1904": "Joseph Conrad, Nostromo, 1904",
    "Dickens_Expectations_1861": "Charles Dickens, Great Expectations, 1861",
    "Dickens_Oliver_1839": "Charles Dickens, Oliver Twist, 1839",
    "Doyle_Hound_1902": "Arthur Conan Doyle, The Hound of the Baskervilles, 1902",
    "Doyle_Lost_1912": "Arthur Conan Doyle, The Lost World, 1912",
    "Eliot_Adam_1859": "George Eliot, Adam Bede, 1859",
    "Gaskell_Ruth_1855": "Elizabeth Gaskell, Ruth, 1853",
    "Gissing_Women_1893": "George Gissing, The Odd Women, 1893",
    "Haggard_Mines_1885": "H. Rider Haggard, King Solomon's Mines, 1885",
    "Hardy_Tess_1891": "Thomas Hardy, Tess of the d'Urbervilles, 1891",
    "James_Ambassadors_1903": "Henry James, The Ambassadors, 1903",
    "Kipling_Captains_1896": "Rudyard Kipling, Captains Courageous, 1897",
    "Kipling_Kim_1901": "Rudyard Kipling, Kim, 1901",
    "Meredith_Feverel_1859": "George Meredith, The Ordeal of Richard Feverel, 1859",
    "Morris_Wood_1894": "William Morris, The Wood Beyond the World, 1894",
    "Stevenson_Treasure_1883": "Robert Louis Stevenson, Treasure Island, 1883",
    "Trollope_Warden_1855": "Anthony Trollope, The Warden, 1855",
}
_CHARACTERS = 30_000
_PARTS = 3
_FRONT_CHARACTERS = 4_000  # titles, dedications, lists of chapters
_END = re.compile(r"([.!?][\"')]*) (?=[\"'(]*[A-Z])")
_TITLES = re.compile(r"\b(?:Mr|Mrs|Dr|St|Esq|Capt|Rev|Hon|No|vol|[A-Z])\.$")


def main() -> None:
    """Writes novels.txt and README.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("novels", type=Path)
    parser.add_argument("-o", "--output-dir", type=Path, required=True)
    options = parser.parse_args()
    documents: list[str] = []
    for name in NOVELS:
        text = (options.novels / f"{name}.txt").read_text("utf-8-sig")
        sentences = _sentences(text[_FRONT_CHARACTERS:][: _CHARACTERS + 2000])[1:]
        size = -(-len(sentences) // _PARTS)
        documents += ["\n".join(sentences[k : k + size]) for k in range(0, len(sentences), size)]
    content = "\n\n".join(documents) + "\n"
    ascii_text = content.encode("ascii", "ignore").decode("ascii")
    (options.output_dir / "novels.txt").write_text(ascii_text, "ascii")
    lines = "".join(f"- {title}\n" for title in NOVELS.values())
    (options.output_dir / "README.md").write_text(
        "# The embedded text\n\n"
        "`novels.txt` stands in for a corpus where none was named and none can be fetched, and\n"
        "is what `pretraining -t overfit` learns by heart. One sentence a line, an empty line\n"
        "between documents (each novel's opening in three parts). The works are in the public\n"
        "domain; the texts are from computationalstylistics/100_english_novels, commit\n"
        "143e601875d70e195f2cc5ebd8b034609271194d (`benchmarks/make_text_sample.py`):\n\n" + lines,
        "utf-8",
    )


def _sentences(text: str) -> list[str]:
    """Sentences of hard-wrapped prose; titles and initials do not end one."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r", "")):
        parts = _END.sub(r"\1\n", " ".join(paragraph.split())).split("\n")
        whole = ""
        for part in parts:
            whole = f"{whole} {part}".strip()
            if not _TITLES.search(whole):
                found.append(whole)
                whole = ""
        found += [whole] if whole else []
    return [one for one in found if re.search("[a-z]", one)]


if __name__ == "__main__":
    main()
