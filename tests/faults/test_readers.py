"""Damaged and foreign input for every reader: one clear line, no hang, no flood of memory.

./check tests/faults             some hundreds of inputs for each reader
./check tests/faults --full      10 000
"""

import bz2
import gzip
import json
import lzma
import random
import resource
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from corpus.stores import VOCABULARY, make_store
from demo_bert import checkpoint
from demo_bert.corpus import sources
from demo_bert.corpus.document import Tally
from demo_bert.corpus.store import open_store
from demo_bert.corpus.verification import verify
from demo_bert.data.tables import read_examples
from demo_bert.errors import DemoBertError
from demo_bert.model.config_file import parse_config, parse_labels
from demo_bert.model.convert import read_model_directory
from demo_bert.model.json_object import read_json_object
from demo_bert.model.vocabulary import (
    CaseRules,
    build_tokenizer,
    read_case_rules,
    read_vocabulary,
    save_tokenizer,
)
from demo_bert.model.weight_files import read_raw_weights
from demo_bert.report.events import last_steps, read_events
from demo_bert.run_directory import RunDirectory
from demo_bert.settings import read_recorded
from demo_bert.settings.layers import read_file
from demo_bert.tasks.mrpc_files import read_mrpc
from demo_bert.tasks.spans.questions import read_questions
from faults.runs import seed_of_the_drill
from model.tf_writer import write_checkpoint
from small_run import CONFIG, save_checkpoint, save_model

LONGEST_S = 5.0
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Reader:
    """A reader, and good input for it.

    Attributes:
        make: Writes the input into a directory.
        read: Reads it; a `DemoBertError` is a refusal.
        fuzzed: The files that are damaged.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]
    fuzzed: tuple[str, ...]


def make_tensors(path: Path) -> None:
    drawn = torch.Generator().manual_seed(1)
    tensors = {f"layer.{n}.weight": torch.randn(4, 3, generator=drawn) for n in range(3)}
    save_file(tensors, path / "model.safetensors")


def make_pickle(path: Path) -> None:
    torch.save({"a": torch.ones(3, 2), "b": torch.zeros(2)}, path / "pytorch_model.bin")


def make_tf(path: Path) -> None:
    tensors = {f"bert/layer_{n}/kernel": np.ones((3, 4), np.float32) for n in range(5)}
    write_checkpoint(path / "bert_model.ckpt", tensors)


def make_squad(path: Path) -> None:
    context = "The river rose in the night. Nobody in the valley slept."
    qas = [
        {"id": f"q{n}", "question": "What rose?", "answers": [{"text": "river", "answer_start": 4}]}
        for n in range(3)
    ]
    article = {"title": "Rivers", "paragraphs": [{"context": context, "qas": qas}]}
    (path / "train.json").write_text(json.dumps({"version": "1.1", "data": [article]}))


def rows(separator: str) -> str:
    names = ["sentence1", "sentence2", "label"]
    lines = [names, *(["It rained.", f"It was wet {n}", str(n % 2)] for n in range(6))]
    return "".join(separator.join(line) + "\n" for line in lines)


def make_rows(path: Path, name: str) -> None:
    if name.endswith("jsonl"):
        lines = [{"sentence1": "a b", "sentence2": "c", "label": n % 2} for n in range(6)]
        (path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif name.endswith("parquet"):
        import pyarrow
        from pyarrow import parquet

        columns = {"sentence1": ["a", "b"] * 4, "sentence2": ["c", "d"] * 4, "label": [0, 1] * 4}
        parquet.write_table(pyarrow.table(columns), path / name)
    else:
        (path / name).write_text(rows("\t" if name.endswith("tsv") else ","))


def make_glue(path: Path) -> None:
    head = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    for name in ("train.tsv", "dev.tsv"):
        lines = "".join(f'{n % 2}\t{n}\t{n + 9}\tA cat {n}.\tA "dog" {n}.\n' for n in range(6))
        (path / name).write_text(head + lines)


def make_tokenizer(path: Path) -> None:
    rules = CaseRules(do_lower_case=True)
    save_tokenizer(path, VOCABULARY, case_rules=rules, max_length_tokens=64)


def make_config(path: Path) -> None:
    content = {**CONFIG.to_dict(), "id2label": {"0": "no", "1": "yes"}, "model_type": "bert"}
    (path / "config.json").write_text(json.dumps(content))


def make_saved(path: Path) -> None:
    for step in (1, 2):
        tensors = {"w": torch.full((4, 3), float(step))}
        save_checkpoint(path, step=step, state={}, model=tensors, optimizer=tensors, keep=2)


def make_log(path: Path) -> None:
    lines = [
        {"event": "step", "time": 1.5, "attempt": 0, "step": n, "loss": 0.5, "grad_norm": "NaN"}
        for n in range(1, 6)
    ]
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_record(path: Path) -> None:
    record = {"command": "finetuning", "settings": [{"name": "seed", "value": 42}]}
    (path / "run.json").write_text(json.dumps(record, indent=2))
    (path / "results.json").write_text(json.dumps({"status": "complete", "steps": 3}))


def make_texts(path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    text = "It rained all night.\n\nNobody slept. The river rose.\n" * 4
    page = f"<page><title>Rain</title><ns>0</ns><id>1</id><revision><text>{text}</text>"
    wiki = f"<mediawiki>{page}</revision></page>\n{page}</revision></page></mediawiki>"
    (path / "wiki.xml").write_text(wiki)
    (path / "wiki.xml.bz2").write_bytes(bz2.compress(wiki.encode()))
    (path / "text.txt").write_text(text)
    (path / "text.txt.gz").write_bytes(gzip.compress(text.encode()))
    (path / "text.txt.xz").write_bytes(lzma.compress(text.encode()))
    (path / "docs.jsonl").write_text(f"{json.dumps({'text': text})}\n" * 3)
    parquet.write_table(pyarrow.table({"text": [text] * 3}), path / "docs.parquet")


TEXTS = {
    "wiki.xml": "wikipedia",
    "wiki.xml.bz2": "wikipedia",
    "text.txt": "text",
    "text.txt.gz": "text",
    "text.txt.xz": "text",
    "docs.jsonl": "jsonl",
    "docs.parquet": "parquet",
}


def read_texts(path: Path) -> None:
    for name, kind in TEXTS.items():
        if (path / name).exists():
            tally: Tally = Counter()
            for piece in sources.plan([(kind, path / name)], tally=tally):
                for _ in sources.read(piece, tally=tally):
                    pass


def read_config(path: Path) -> None:
    content = read_json_object(path / "config.json")
    parse_config(content, path / "config.json", gelu_is_tanh=False)
    parse_labels(content, path / "config.json")


def read_tokenizer(path: Path) -> None:
    vocabulary = read_vocabulary(path / "tokenizer.json")
    rules = read_case_rules(path, vocabulary)
    build_tokenizer(vocabulary, **vars(rules)).encode("It rained.")


def read_words(path: Path) -> None:
    build_tokenizer(read_vocabulary(path / "vocab.txt"), do_lower_case=True).encode("It rained.")


def read_store(path: Path) -> None:
    store = open_store(path)
    verify(store, read_vocabulary(store.vocabulary_path), report=lambda done, total: None)


def read_saved(path: Path) -> None:
    """No damaged one is taken, and the one before always is."""
    found, complaints = checkpoint.newest(path)
    assert found is not None
    (value,) = {float(value) for value in found.tensors("model")["w"].flatten()}
    assert value == found.step
    assert all("\n" not in complaint for complaint in complaints)


def read_record(path: Path) -> None:
    directory = RunDirectory(path)
    read_recorded(path)
    directory.record()
    directory.results()


TABLES = ("rows.tsv", "rows.csv", "rows.jsonl", "rows.parquet")
READERS = {
    "safetensors": Reader(
        make_tensors,
        read_raw_weights,
        ("model.safetensors",),
    ),
    "pickle": Reader(make_pickle, read_raw_weights, ("pytorch_model.bin",)),
    "tensorflow": Reader(
        make_tf,
        read_raw_weights,
        ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"),
    ),
    "squad": Reader(make_squad, lambda path: read_questions(path / "train.json"), ("train.json",)),
    **{
        name.partition(".")[2]: Reader(
            lambda path, name=name: make_rows(path, name),
            lambda path, name=name: read_examples(path / name),
            (name,),
        )
        for name in TABLES
    },
    "mrpc": Reader(make_glue, lambda path: read_mrpc([path]), ("train.tsv", "dev.tsv")),
    "vocab": Reader(make_tokenizer, read_words, ("vocab.txt",)),
    "config": Reader(make_config, read_config, ("config.json",)),
    "tokenizer": Reader(
        make_tokenizer,
        read_tokenizer,
        ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    ),
    "model": Reader(save_model, read_model_directory, ("config.json", "model.safetensors")),
    "store": Reader(
        lambda path: make_store(path, [[[[5, 6], [7]], [[8, 9, 10]]]]),
        read_store,
        ("manifest.json", "shard-00000.bin", "vocab.txt"),
    ),
    "checkpoint": Reader(
        make_saved, read_saved, ("step-2/manifest.json", "step-2/model.safetensors", "newest")
    ),
    "events": Reader(
        make_log, lambda path: last_steps(read_events(path / "events.jsonl")), ("events.jsonl",)
    ),
    "record": Reader(make_record, read_record, ("run.json", "results.json")),
    "texts": Reader(make_texts, read_texts, tuple(TEXTS)),
    "settings": Reader(
        lambda path: (path / "run.toml").write_text('model = "base"\nbatch_size = [64, 8]\n'),
        lambda path: read_file(str(path / "run.toml"), "pretraining"),
        ("run.toml",),
    ),
    "settings_yaml": Reader(
        lambda path: (path / "run.yaml").write_text("model: base\nbatch_size: [64, 8]\n"),
        lambda path: read_file(str(path / "run.yaml"), "pretraining"),
        ("run.yaml",),
    ),
}

TOKENS = (
    *(b"\x00" * 8, b"\xff" * 8, b"\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\t"),
    *(b'"', b"\\", b"\\ud800", b"\x00", b",", b"[]", b"{}", b"null", b"true", b"NaN", b"-1"),
    *(b"1e999", b"0.5", b"9" * 30, b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"<text>", b"{{"),
    *(b"Infinity", b"\xf0\x9f\x98\x80", b"\xff\xff\xff\x7f", b"a" * 10_000, b"&#x0;", b"]]"),
)
PLACE = st.integers(0, 1 << 20)
EDIT = st.one_of(
    st.tuples(st.just("set"), PLACE, st.integers(0, 255)),
    st.tuples(st.just("write"), PLACE, st.sampled_from(TOKENS) | st.binary(max_size=8)),
    st.tuples(st.just("insert"), PLACE, st.sampled_from(TOKENS) | st.binary(max_size=8)),
    st.tuples(st.just("delete"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("cut"), PLACE, st.just(0)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 200)),
)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "\x00", "\ud800", "../../x", "0", "[UNK]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
"""What JSON can say."""

Edit = tuple[str, int, Any]
Change = list[Edit] | tuple[int, Any]
"""Edits of the bytes, or a place in the JSON and another value for it."""

CHANGE = st.lists(EDIT, min_size=1, max_size=5) | st.tuples(PLACE, VALUE)


def drawn_change(drawn: random.Random) -> Change:
    """The like without hypothesis: ten times as fast, and a failure is not made smaller."""
    if drawn.random() < 0.4:
        values = (None, True, -1, 0, 2**70, 0.5, float("nan"), "", "x", "\x00", "\ud800", [], {})
        return drawn.randrange(1 << 20), drawn.choice([*values, [drawn.choice(values)], {"a": 1}])
    edits: list[Edit] = []
    for _ in range(drawn.randint(1, 5)):
        kind = drawn.choice(("set", "set", "write", "insert", "delete", "cut", "repeat"))
        is_text = kind in ("write", "insert")
        token = drawn.choice((*TOKENS, drawn.randbytes(drawn.randint(1, 8))))
        edits.append((kind, drawn.randrange(1 << 20), token if is_text else drawn.randint(1, 200)))
    return edits


def edited(data: bytes, edits: list[Edit]) -> bytes:
    found = bytearray(data)
    for kind, where, what in edits:
        place = where % (len(found) + 1)
        if kind == "set":
            found[place : place + 1] = bytes([what])
        elif kind == "write":
            found[place : place + len(what)] = what
        elif kind == "insert":
            found[place:place] = what
        elif kind == "delete":
            del found[place : place + what]
        elif kind == "cut":
            del found[place:]
        else:
            found[place:place] = bytes(found[place : place + 20]) * what
    return bytes(found)


def with_value(content: Any, place: int, value: Any) -> Any:
    """The JSON value with one of its parts replaced, or its key."""
    while isinstance(content, dict | list) and content and place % 7:
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = list(keys)[place % len(content)]
        place //= len(content)
        part = with_value(content[key], place, value)
        if isinstance(content, list):
            return [part if n == key else one for n, one in enumerate(content)]
        if place % 5 == 1:
            return {str(value) if k == key else k: one for k, one in content.items()}
        return {k: part if k == key else one for k, one in content.items()}
    return value


class TooLong(BaseException):
    """A reader took more than `LONGEST_S` of computing."""


def end(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise TooLong


@contextmanager
def limits() -> Iterator[None]:
    """Ends what computes for too long, and what asks for far too much memory at once."""
    handler = signal.signal(signal.SIGPROF, end)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 4 * MOST_BYTES, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", READERS)
def test_damaged_input_is_refused_in_one_line_or_read(
    tmp_path: Path, name: str, is_full: bool
) -> None:
    reader = READERS[name]
    good = tmp_path / "good"
    good.mkdir()
    reader.make(good)
    reader.read(good)
    bad = tmp_path / "bad"
    shutil.copytree(good, bad)
    contents = {file: (good / file).read_bytes() for file in reader.fuzzed}
    tally = Counter[str]()
    longest_s = 0.0

    def check(file: str, change: Change) -> None:
        nonlocal longest_s
        if isinstance(change, list):
            data = edited(contents[file], change)
        elif file.endswith(".json"):
            data = json.dumps(with_value(json.loads(contents[file]), *change)).encode()
        else:
            data = edited(
                contents[file],
                [("write", change[0], str(change[1])[:9].encode("utf-8", "replace"))],
            )
        (bad / file).write_bytes(data)
        signal.setitimer(signal.ITIMER_PROF, LONGEST_S)
        began_s = time.process_time()
        try:
            reader.read(bad)
            tally["read"] += 1
        except DemoBertError as error:
            message = str(error)
            assert message and "\n" not in message, message
            tally["refused"] += 1
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            longest_s = max(longest_s, time.process_time() - began_s)
            (bad / file).write_bytes(contents[file])

    @settings(
        max_examples=1000 if is_full else 120,
        derandomize=not is_full,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(reader.fuzzed), CHANGE)
    def run(file: str, change: Change) -> None:
        check(file, change)

    before = peak_bytes()
    drawn = random.Random(seed_of_the_drill() if is_full else 1)
    with limits():
        run()
        while sum(tally.values()) < (10_000 if is_full else 240):
            file, change = drawn.choice(reader.fuzzed), drawn_change(drawn)
            try:
                check(file, change)
            except BaseException:
                print(f"{name}: {file}: {change!r}")
                raise
    assert peak_bytes() - before < MOST_BYTES
    assert tally["refused"] or name in ("events", "checkpoint", "texts")
    print(f"{name}: {dict(tally)}, longest {longest_s:.2f} s, {peak_bytes() - before} bytes more")
