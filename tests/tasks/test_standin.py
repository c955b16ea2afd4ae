import hashlib
import importlib.util
import json
import re
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "src" / "demo_bert" / "tasks" / "standin"
BENCHMARKS = ROOT / "benchmarks"
PARTS = ("train", "dev")


@cache
def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def rows(part: str) -> list[list[str]]:
    text = (DATA / f"{part}.tsv").read_bytes().decode("ascii")
    assert text.endswith("\n")
    return [line.split("\t") for line in text[:-1].split("\n")]


def stem(word: str) -> str:
    """A rough stem: "planning" -> "plan", "countries" -> "countri", "country" -> "countri"."""
    for suffix in ("ings", "ing", "ers", "ors", "ed", "er", "or", "es", "ly", "al", "s", "e"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            word = word.removesuffix(suffix)
            break
    if len(word) > 4 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] + "i" if word.endswith("y") else word


def phrases(part: str) -> list[str]:
    """All that the templates and word lists of a part can write, slots left out."""
    maker = benchmark("make_standin")
    data = maker.read_part(BENCHMARKS / f"standin_{part}.toml")
    found = [name for names in data.entities.values() for name in names]
    for frame in data.frames:
        found += [re.sub(r"\{[a-z.]+\}", " ", template) for template in frame.templates]
        for concepts in frame.concepts.values():
            found += [wording for wordings in concepts for wording in wordings]
    return found


def content_words(texts: list[str]) -> set[str]:
    maker = benchmark("make_standin")
    found = {word for text in texts for word in maker.words(text)}
    return found - maker.FUNCTION_WORDS - {"s"}  # the s of "mayor's"


def test_the_generator_makes_the_stored_files_bit_for_bit():
    files = benchmark("make_standin").make()
    assert sorted(files) == ["dev.tsv", "train.tsv"]
    for name, text in files.items():
        assert (DATA / name).read_bytes() == text.encode("ascii"), name


@pytest.mark.parametrize(("part", "count"), [("train", 1600), ("dev", 400)])
def test_a_part_has_glues_columns_its_count_and_as_many_paraphrases_as_others(part, count):
    header, *body = rows(part)
    assert header == ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    assert len(body) == count
    assert {len(row) for row in body} == {5}
    assert Counter(row[0] for row in body) == {"0": count // 2, "1": count // 2}


def test_ids_are_unique_over_both_parts():
    ids = [number for part in PARTS for row in rows(part)[1:] for number in row[1:3]]
    assert all(number.isdecimal() for number in ids)
    assert len(set(ids)) == len(ids) == 4000


def test_no_sentence_occurs_twice_within_or_across_the_parts():
    texts = [text.lower() for part in PARTS for row in rows(part)[1:] for text in row[3:]]
    assert len(set(texts)) == len(texts) == 4000


def test_sentences_have_12_to_25_words_and_no_rest_of_a_template():
    words = benchmark("make_standin").words
    for part in PARTS:
        for row in rows(part)[1:]:
            for text in row[3:]:
                assert 12 <= len(words(text)) <= 25, text
                assert re.fullmatch(r"[A-Z0-9][A-Za-z0-9,' -]+\.", text), text
                assert "  " not in text and " ," not in text, text


def test_the_parts_share_no_template():
    maker = benchmark("make_standin")
    templates = [
        {
            re.sub(r"\{[a-z.]+\}", "{}", template)
            for frame in maker.read_part(BENCHMARKS / f"standin_{part}.toml").frames
            for template in frame.templates
        }
        for part in PARTS
    ]
    assert len(templates[0]) >= 40 and len(templates[1]) >= 24
    assert not templates[0] & templates[1]


def test_the_word_lists_share_no_content_word_nor_a_form_of_one():
    train, dev = (content_words(phrases(part)) for part in PARTS)
    assert len(train) > 1000 and len(dev) > 700
    assert not train & dev
    assert not {stem(word) for word in train} & {stem(word) for word in dev}


def test_the_written_sentences_share_no_content_word():
    train, dev = (
        content_words([text for row in rows(part)[1:] for text in row[3:]]) for part in PARTS
    )
    assert not train & dev


def test_function_words_are_no_content_words_of_a_list():
    # A long list of exceptions would empty the two tests above.
    assert len(benchmark("make_standin").FUNCTION_WORDS) < 200


def test_every_concept_has_wordings_that_differ_and_no_wording_has_two_meanings_in_a_slot():
    for part in PARTS:
        for frame in (
            benchmark("make_standin").read_part(BENCHMARKS / f"standin_{part}.toml").frames
        ):
            for slot, concepts in frame.concepts.items():
                wordings = [wording for concept in concepts for wording in concept]
                assert len(set(wordings)) == len(wordings), (frame.name, slot)
                assert min(len(concept) for concept in concepts) >= 3, (frame.name, slot)


def test_logistic_regression_on_surface_features_reaches_at_most_three_quarters():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra: dev)")
    baselines = benchmark("standin_baselines")
    train, dev = (baselines.read_rows(DATA / f"{part}.tsv") for part in PARTS)
    found = baselines.logistic_regression(train, dev, strengths=(0.1, 10.0))
    assert len(found) == 12
    assert max(run["accuracy"] for run in found) <= 0.75


def test_the_stored_baselines_are_of_these_files_and_only_a_pretrained_model_is_good():
    stored = json.loads((BENCHMARKS / "standin_baselines.json").read_text(encoding="utf-8"))
    for part in PARTS:
        content = (DATA / f"{part}.tsv").read_bytes()
        assert stored["files"][f"{part}.tsv"] == hashlib.sha256(content).hexdigest()
    baselines = stored["baselines"]
    assert len(baselines["logistic_regression"]["runs"]) >= 12
    assert max(run["accuracy"] for run in baselines["logistic_regression"]["runs"]) <= 0.75
    tiny = baselines["tiny_random"]["runs"]
    assert {run["seed"] for run in tiny} == {1, 2, 3}
    assert max(max(run["accuracy_by_epoch"]) for run in tiny) <= 0.80
    minilm = [run["accuracy_by_epoch"][-1] for run in baselines["minilm"]["runs"]]
    assert len(minilm) >= 3
    assert sum(minilm) / len(minilm) > 0.85
