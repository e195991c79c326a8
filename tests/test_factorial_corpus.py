"""Tests of the factorial corpus in ``data/``."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DATA = Path(__file__).resolve().parents[1] / "data"
RECORDS = DATA / "factorial" / "records.jsonl"
SPLITS = ("train", "validation", "test")
CELLS = set(
    product(
        ("casual", "formal", "journalistic", "literary"),
        (1.0, 2.0, 3.0),
        (1.0, 2.0, 3.0),
    )
)

Record = dict[str, Any]


def load_script(name: str) -> ModuleType:
    """Import a script of data/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, DATA / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes the corpus."""
    return load_script("make_factorial")


@pytest.fixture(scope="module")
def describer() -> ModuleType:
    """The script that measures the corpus."""
    return load_script("describe_factorial")


@pytest.fixture(scope="module")
def records(describer: ModuleType) -> list[Record]:
    """The checked-in records."""
    loaded: list[Record] = describer.load()
    return loaded


@pytest.mark.slow
def test_checked_in_file_is_what_the_generator_gives(generator: ModuleType) -> None:
    """The file is exactly reproducible."""
    assert generator.render() == RECORDS.read_bytes()


def test_check_tells_a_changed_file(
    generator: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--check passes on equal bytes and names the remedy otherwise."""
    path = tmp_path / "records.jsonl"
    assert generator.check(b"new\n", path) == 1
    path.write_bytes(b"old\n")
    assert generator.check(b"new\n", path) == 1
    assert "run python data/make_factorial.py" in capsys.readouterr().err
    assert generator.check(b"old\n", path) == 0


def test_readme_gives_the_checksum() -> None:
    """data/README.md is kept in step with the file."""
    digest = hashlib.sha256(RECORDS.read_bytes()).hexdigest()
    assert digest in (DATA / "README.md").read_text(encoding="utf-8")


def test_record_format(records: list[Record]) -> None:
    """Every record has the five fields, unique id, and numeric levels."""
    for record in records:
        assert list(record) == ["id", "text", "group", "factors", "split"]
        assert list(record["factors"]) == ["topic", "style", "complexity", "specificity"]
        assert record["split"] in SPLITS
        assert isinstance(record["factors"]["complexity"], float)
        assert isinstance(record["factors"]["specificity"], float)
    ids = [record["id"] for record in records]
    assert ids == sorted(set(ids))


def test_fully_crossed(records: list[Record]) -> None:
    """Each group has all 36 cells once and belongs to one topic and one split."""
    cells: dict[str, Counter[tuple[str, float, float]]] = defaultdict(Counter)
    homes: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for record in records:
        factors = record["factors"]
        cell = (factors["style"], factors["complexity"], factors["specificity"])
        cells[record["group"]][cell] += 1
        homes[record["group"]].add((factors["topic"], record["split"]))
    assert len(cells) == 80
    for group, counts in cells.items():
        assert counts == Counter(CELLS), group
        assert len(homes[group]) == 1, group


def test_every_topic_is_in_every_split(records: list[Record]) -> None:
    """Of each topic's ten groups seven train; one or two validate, two or one test."""
    groups: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        groups[record["factors"]["topic"], record["split"]].add(record["group"])
    topics = {topic for topic, _ in groups}
    assert len(topics) == 8
    for topic in topics:
        assert len(groups[topic, "train"]) == 7
        assert len(groups[topic, "validation"]) in (1, 2)
        assert len(groups[topic, "test"]) in (1, 2)


def test_texts_are_distinct_and_short(records: list[Record]) -> None:
    """No text occurs twice; all have 5 to 80 words and at most four sentences."""
    texts = [record["text"] for record in records]
    assert len(set(texts)) == len(texts)
    for text in texts:
        assert 5 <= len(text.split()) <= 80, text
        assert len(re.findall(r'[.!?]"?(?=\s|$)', text)) <= 4, text


def test_texts_are_tidy(records: list[Record]) -> None:
    """No slot is left unfilled, and articles, commas and capitals are right."""
    slips = re.compile(
        r"[{}<>\[\]]|\s\s|\s[,.;:!?]|,[,.;:!?]|[.!?]\"? [a-z]|^[a-z]|\ba [aeio]|\ban? an?\b"
        r"|\bthe the\b|\ban [bcdfgjklmnpqrstvwxyz]"
    )
    for record in records:
        assert not slips.search(record["text"]), record


def test_general_texts_have_no_digits_and_particular_ones_have_names(
    records: list[Record],
) -> None:
    """Specificity 1 and 2 name no figures; specificity 3 names someone or something."""
    for record in records:
        if record["factors"]["specificity"] < 3:
            assert not re.search(r"\d", record["text"]), record
        else:
            assert re.search(r"\d|[a-z,] [A-Z]\w+", record["text"]), record


@pytest.mark.parametrize(
    ("factor", "limit"),
    [("topic", 0.80), ("style", 0.72), ("complexity", 0.72), ("specificity", 0.72)],
)
def test_no_single_word_gives_a_label_away(
    factor: str, limit: float, records: list[Record], describer: ModuleType
) -> None:
    """Presence or absence of the best word tells a label from the rest only poorly."""
    for label, (word, score) in describer.best_single_words(records, factor).items():
        assert score < limit, (label, word)
