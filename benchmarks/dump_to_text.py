"""Dump to text on one core: megabytes of XML a second, and what became of the pages.

    PYTHONPATH=src python benchmarks/dump_to_text.py DUMP --rounds 3 [--other COMMAND]

DUMP is XML, packed or not; it is unpacked first, as that is not what is measured. COMMAND, where it
is given, is another extractor, called with the XML file's name at its end, in turn with ours;
seconds are of the CPU, of the child process for it.
"""

import argparse
import json
import resource
import shlex
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from demo_bert.corpus import wikipedia
from demo_bert.corpus.document import Tally, whole
from demo_bert.corpus.streams import Stream


def main() -> None:
    """Measures, and prints a JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dump", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--other", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        xml = Path(directory) / "dump.xml"
        piece = whole("wikipedia", str(given.dump), num_bytes=given.dump.stat().st_size)
        with Stream(piece) as stream:
            xml.write_bytes(b"".join(iter(stream.read, b"")))
        size = xml.stat().st_size / 1e6
        ours: list[float] = []
        others: list[float] = []
        tally = Tally()
        for _ in range(given.rounds):
            tally = Tally()
            begin = time.process_time()
            for one in wikipedia.plan("wikipedia", xml, tally=tally):
                for _paragraphs in wikipedia.read(one, tally=tally):
                    pass
            ours.append(size / (time.process_time() - begin))
            if given.other:
                others.append(size / _seconds_of([*shlex.split(given.other), str(xml)], directory))
    found = {"mb": size, "ours_mb_per_s": ours, "tally": dict(tally)}
    if others:
        found |= {"other_mb_per_s": others}
        found |= {"ratio_median": statistics.median(ours) / statistics.median(others)}
    print(json.dumps(found, indent=2))


def _seconds_of(command: list[str], directory: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, cwd=directory, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
