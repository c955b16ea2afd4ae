import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from importlib.resources import files as resources
from pathlib import Path

import pytest

from demo_bert.report.page import write_report
from report import runs

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Checker(HTMLParser):
    """Reads a page strictly: tags close in order, ids are unique, nothing is fetched."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            if name == "id":
                self.ids[value] += 1
            if name in ("src", "href", "srcset", "action", "data"):
                self.links.append(value)
            if tag == "th":
                assert any(n == "scope" for n, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}>"

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.words.append(data)


def checked(path: Path) -> tuple[Checker, str]:
    html = path.read_text("utf-8")
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert not checker.open and max(checker.ids.values(), default=1) == 1
    targets = {f"#{name}" for name in checker.ids}
    assert all(
        link in targets or re.fullmatch(r"seed-\d+/report\.html", link) for link in checker.links
    )
    assert not {"script", "iframe", "img", "link", "object", "embed"} & set(checker.tags)
    assert "://" not in html and "url(" not in html and "@import" not in html
    return checker, " ".join(" ".join(checker.words).split())


def test_the_page_of_a_run_has_all_its_parts(tmp_path):
    path = write_report(runs.write_run(tmp_path / "out"))
    assert path == tmp_path / "out" / "report.html"
    checker, words = checked(path)
    assert list(checker.ids) == [
        "scores",
        "curves",
        "confusion-matrix",
        "most-confident-mistakes",
        "speed",
        "data-and-weights",
        "settings",
        "environment",
        "history",
    ]
    assert checker.tags["h1"] == 1 and checker.tags["h2"] == 9 and checker.tags["figure"] == 5
    for part in (
        "minilm on mrpc",
        "351 of 408 validation examples right",
        "17.6 points above always answering the majority class",
        "111 86.0 %",
        "d" * 64,
        "a" * 64,
        "Microsoft Research; may not be redistributed",
        "DEMO_BERT_SEED",
        "2 tensors made at random",
        "avx512, bf16",
        "checkpoints/step-344",
    ):
        assert part in words, part
    assert "Sample data" not in words and "Not finished" not in words


def test_texts_of_the_data_are_shown_and_never_run(tmp_path):
    path = write_report(runs.write_run(tmp_path / "out", model="<i>m</i>", task='"t"'))
    checker, words = checked(path)
    shown = "".join(checker.words)
    assert all(text in shown for pair in runs.PAIRS for text in pair)
    assert "<i>m</i>" in words
    assert path.read_text("utf-8").count('dir="auto"') == 2 * len(runs.PAIRS)


def test_a_page_is_text_that_every_reader_can_decode(tmp_path):
    directory = runs.write_run(
        tmp_path / "out", num_steps=5, model="half \udc80, null \x00, \x1b[1m"
    )
    html = write_report(directory).read_bytes().decode("utf-8")
    assert "half \ufffd, null \ufffd" in html and not re.search("[\x00-\x08\x0b-\x1f]", html)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"name": "mrpc", "sample": True}}, "Sample data."),
        ({"status": "stopped"}, "Stopped before its end."),
        ({"status": "failed"}, "Failed."),
        ({"fast_perf_only": True}, "For measuring only."),
        ({"metrics": {"accuracy": 0.69}}, "Not clearly better than"),
        ({"metrics": {"accuracy": 0.6}}, "No better than"),
    ],
)
def test_what_to_be_careful_about_is_said_at_the_top(tmp_path, changes, said):
    _, words = checked(write_report(runs.write_run(tmp_path / "out", num_steps=9, **changes)))
    assert said in words.split("Scores")[0]


def test_a_failed_run_says_why(tmp_path):
    directory = runs.write_run(tmp_path / "out", num_steps=9, status="failed")
    with (directory / "events.jsonl").open("a") as file:
        event = {"event": "fault", "kind": "nonfinite", "tensor": "loss", "rank": 0, "step": 9}
        file.write(json.dumps(event) + "\n")
    _, words = checked(write_report(directory))
    assert "Failed. nonfinite (tensor loss, rank 0)" in words


@pytest.mark.parametrize("missing", ["run.json", "results.json", "events.jsonl"])
def test_a_run_that_lacks_a_file_has_a_smaller_page(tmp_path, missing):
    directory = runs.write_run(tmp_path / "out", num_steps=20)
    whole = write_report(directory).stat().st_size
    (directory / missing).unlink()
    path = write_report(directory)
    checked(path)
    assert path.stat().st_size < whole


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    (tmp_path / "events.jsonl").write_text("")
    _, words = checked(write_report(tmp_path))
    assert "Not finished." in words


def test_ten_thousand_steps_stay_below_500_kilobytes(tmp_path):
    path = write_report(runs.write_run(tmp_path / "out", num_steps=10_000))
    checked(path)
    assert path.stat().st_size < 150_000


def test_pre_training_shows_its_phases(tmp_path):
    phase = {
        "name": "phase 1",
        "steps": 7038,
        "max_seq_length": 128,
        "global_batch_size": 65536,
        "learning_rate": 6e-3,
        "metrics": {"mlm_loss": 1.5, "mlm_accuracy": 0.68},
    }
    metrics = {"mlm_loss": 1.4, "mlm_accuracy": 0.7, "phases": [phase]}
    path = write_report(
        runs.write_run(tmp_path, num_steps=5, command="pretraining", metrics=metrics)
    )
    _, words = checked(path)
    assert "phase 1 7,038 128 65,536 0.006 1.5000 0.6800" in words
    assert "0.7000 masked LM accuracy" in words


def test_many_seeds_are_a_table_with_their_curves_together(tmp_path):
    path = write_report(runs.write_seeds(tmp_path))
    checker, words = checked(path)
    assert "0.8603 \u00b1 0.0123 accuracy" in words
    assert "44 0.9040 0.9000 majority class only page" in words and "mean 0.8603" in words
    assert "Seed 44: the model always gives the majority class." in words
    assert checker.links.count("seed-42/report.html") == 1
    for seed in (42, 43, 44):
        _, page = checked(tmp_path / f"seed-{seed}" / "report.html")
        assert f"seed {seed}" in page


def test_a_section_that_is_empty_is_not_linked(tmp_path):
    directory = runs.write_run(tmp_path / "out", num_steps=20)
    (directory / "run.json").unlink()
    checker, words = checked(write_report(directory))
    assert "#settings" not in checker.links and "Settings" not in words


JUNK = (None, True, -1, 1e308, 10**400, "NaN", "", "<b>", [], {}, [[]], [None], {"a": {"b": []}})


def broken(value: object, dice: random.Random) -> object:
    """The value with some of its parts replaced by something else."""
    if dice.random() < 0.12:
        return dice.choice(JUNK)
    if isinstance(value, dict):
        return {key: broken(entry, dice) for key, entry in value.items() if dice.random() > 0.05}
    if isinstance(value, list):
        return [broken(entry, dice) for entry in value if dice.random() > 0.05]
    return value


@pytest.mark.parametrize("seed", range(40))
def test_no_content_of_the_files_breaks_the_page(tmp_path, seed):
    dice = random.Random(seed)
    directory = runs.write_run(tmp_path / "out", num_steps=30)
    for name in ("run.json", "results.json"):
        value = broken(json.loads((directory / name).read_text()), dice)
        (directory / name).write_text(json.dumps(value))
    lines = (directory / "events.jsonl").read_text().splitlines()
    events = [
        json.dumps({"event": event["event"], "step": event.get("step")} | changed)
        for event in map(json.loads, lines)
        if isinstance(changed := broken(event, dice), dict)
    ]
    (directory / "events.jsonl").write_text("\n".join(events))
    checked(write_report(directory))


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_and_lines_have_enough_contrast(mode):
    style = resources("demo_bert.report").joinpath("page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", light))
    if mode == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#\w{6});", dark))
    for paper in ("paper", "surface"):
        for text in ("ink", "soft", "accent", "good", "bad", "careful"):
            assert contrast(colours[text], colours[paper]) >= 4.5, (text, paper)
        for line in (f"c{place}" for place in range(6)):
            assert contrast(colours[line], colours[paper]) >= 4.5, (line, paper)
    for paper in ("mark", "careful-paper", "bad-paper"):
        assert contrast(colours["ink"], colours[paper]) >= 4.5, paper
