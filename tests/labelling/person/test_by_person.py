"""A person's answers are on disk at once, are gone if undone, and are gone on from."""

import gzip
import io
import json
from pathlib import Path

import pytest

from subspace.data.comparisons import Comparison, read_comparisons
from subspace.data.records import read_records
from subspace.errors import ConfigError, RecordError
from subspace.labelling.person import Interview, Screen, compare_by_person, label_by_person


class Replies(io.StringIO):
    """Lines that are typed one by one; `watch` is called before each of them is read."""

    def __init__(self, *lines: str, watch=None) -> None:
        super().__init__("".join(f"{line}\n" for line in lines))
        self._watch = watch

    def readline(self, *arguments) -> str:
        if self._watch:
            self._watch()
        return super().readline(*arguments)


@pytest.fixture
def texts(tmp_path) -> Path:
    path = tmp_path / "texts.jsonl"
    write(path, *({"id": name, "text": f"the text {name}", "mine": name} for name in "abcdef"))
    return path


def write(path: Path, *lines: dict) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def label(texts: Path, *replies: str, watch=None, output="out.jsonl", **options):
    """Answers, and returns what was shown and what came of it."""
    shown = io.StringIO()
    screen = Screen(replies=Replies(*replies, watch=watch), shown=shown, columns=80)
    options = {"factors": ["register"], **options}
    asked = label_by_person(texts, texts.with_name(output), screen=screen, **options)
    return shown.getvalue(), asked


def compare(texts: Path, *replies: str, **options):
    shown = io.StringIO()
    screen = Screen(replies=Replies(*replies), shown=shown, columns=80)
    options = {"factors": ["depth"], **options}
    asked = compare_by_person(texts, texts.with_name("pairs.jsonl"), screen=screen, **options)
    return shown.getvalue(), asked


def labels(texts: Path, factor: str = "register") -> dict[str, str | float]:
    """What the file holds, in its order."""
    path = texts.with_name("out.jsonl")
    if not path.exists():
        return {}
    return {r.id: r.factors[factor] for r in read_records(path) if factor in r.factors}


def test_answers_are_human_labels_and_lines_keep_what_they_hold(texts):
    _, asked = label(texts, "1", "2.5", "", "-1", "q")
    assert asked == Interview(answered=3, skipped=1, finished=False)
    assert labels(texts) == {"a": 1.0, "b": 2.5, "d": -1.0}
    assert all(not record.origins for record in read_records(texts.with_name("out.jsonl")))
    lines = texts.with_name("out.jsonl").read_text().splitlines()
    assert [json.loads(line)["mine"] for line in lines] == ["a", "b", "d"]


def test_every_answer_is_on_disk_before_the_next_question(texts):
    seen = []
    label(texts, "1", "x", "2", "u", "3", watch=lambda: seen.append(dict(labels(texts))))
    assert seen == [
        {},
        {"a": 1.0},
        {"a": 1.0},  # x is no answer
        {"a": 1.0, "b": 2.0},
        {"a": 1.0},  # undone
        {"a": 1.0, "b": 3.0},
    ]


def test_the_same_call_goes_on_and_asks_what_was_skipped_last(texts):
    label(texts, "1", "", "3", "", "q")
    shown, asked = label(texts, "5", "6")
    assert [line for line in shown.splitlines() if line.startswith("[")] == [
        *("[3 of 6] e", "[4 of 6] f", "[5 of 6] b")
    ]
    assert not asked.finished
    _, asked = label(texts, "2", "4")
    assert asked == Interview(answered=6, skipped=0, finished=True)
    assert labels(texts) == {"a": 1, "c": 3, "e": 5, "f": 6, "b": 2, "d": 4}
    assert [path.name for path in sorted(texts.parent.iterdir())] == ["out.jsonl", "texts.jsonl"]
    shown, asked = label(texts)
    assert (shown, asked.finished) == ("all are asked (empty ends, u undoes) > \n", True)


def test_the_last_answer_can_be_undone_too(texts):
    _, asked = label(texts, *"123456", "u", "u", "8", "7", "")
    assert asked == Interview(answered=6, skipped=0, finished=True)
    assert labels(texts) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 8, "f": 7}
    _, asked = label(texts, "u", "q")
    assert asked == Interview(answered=5, skipped=0, finished=False)


def test_skips_are_on_disk_at_once(texts):
    label(texts, "", "")
    shown, _ = label(texts)
    assert "] c" in shown
    assert not texts.with_name("out.jsonl").exists()


def test_undo_goes_back_step_by_step_over_skips_and_over_runs(texts):
    label(texts, "1", "2", "q")
    shown, asked = label(texts, "", "u", "u", "u", "u", "7", "8", "q")
    assert shown.count("there is nothing to undo") == 1
    assert asked == Interview(answered=2, skipped=0, finished=False)
    assert labels(texts) == {"a": 7, "b": 8}
    label(texts, "u", "u", "q")
    assert [path.name for path in texts.parent.iterdir()] == ["texts.jsonl"]


def test_what_was_undone_and_skipped_is_not_asked_again_in_that_run(texts):
    label(texts, "1", "", "3", "q")  # b is skipped
    shown, asked = label(texts, "u", "", "4", "5", "6", "2")
    assert [line[-1] for line in shown.splitlines() if line.startswith("[")] == list("dcdefb")
    assert (asked.answered, asked.skipped, asked.finished) == (5, 1, True)


def test_classes_are_chosen_by_digits_and_seen_in_later_runs(texts):
    label(texts, "2", "Casual", "0", "formal", "q", classes={"register": ["casual", "formal"]})
    assert labels(texts) == {"a": "formal", "b": "casual", "c": "formal"}
    shown, _ = label(texts, "1", "q")
    assert "register: 1 formal, 2 casual (" in shown
    assert labels(texts)["d"] == "formal"


def test_several_factors_are_asked_in_turn(texts):
    options = {"factors": ["register", "depth"], "classes": {"register": ["x", "y"]}}
    label(texts, "1", "7", "2", "u", "u", "8", "q", **options)
    assert labels(texts) == {"a": "x"}
    assert labels(texts, "depth") == {"a": 8}
    shown, _ = label(texts, "2", "q", **options)
    assert "[3 of 12] b" in shown
    assert labels(texts) == {"a": "x", "b": "y"}


def test_another_factor_goes_into_the_same_file_and_undo_spares_the_first(texts):
    label(texts, "1", "2", "q")
    label(texts, "5", "u", "q", factors=["depth"])
    assert labels(texts) == {"b": 2, "a": 1}
    label(texts, "5", "q", factors=["depth"])
    assert (labels(texts)["a"], labels(texts, "depth")) == (1, {"a": 5})


def test_labels_by_people_stay_and_those_of_others_are_asked_for(texts):
    write(
        texts,
        {"id": "a", "text": "one", "factors": {"register": 9, "topic": "t"}},
        {
            **{"id": "b", "text": "two", "factors": {"register": 0.1, "depth": 0.2}},
            "origins": {"register": "features", "depth": "features"},
        },
        {"id": "c", "text": "three"},
    )
    shown, asked = label(texts, "1", "q")
    assert "] a" not in shown
    assert asked.answered == 1
    first, second = read_records(texts.with_name("out.jsonl"))
    assert first.factors == {"register": 9, "topic": "t"}
    assert second.factors == {"register": 1, "depth": 0.2}
    assert second.origins == {"depth": "features"}
    label(texts, "u", "u", "q")
    assert labels(texts) == {"a": 9}


def test_chosen_texts_are_asked_in_the_order_of_choice(texts):
    shown, asked = label(texts, "1", "2", ids=["d", "b"])
    assert asked == Interview(answered=2, skipped=0, finished=True)
    assert labels(texts) == {"d": 1, "b": 2}
    assert "[2 of 2] b" in shown


def test_long_texts_are_cut_and_shown_on_demand(texts):
    write(texts, {"id": "a", "text": "x" * 800 + "y" * 800 + "z"})
    shown, _ = label(texts, "m", "m", "m", "1")
    pages = shown.split("m shows more")
    assert len(pages) == 3  # not offered where there is no more
    assert "..." in pages[0]
    assert "yy" not in pages[0]
    assert "z" not in pages[1]
    assert "z" in pages[2]
    assert "that was all of it" in pages[2]
    assert shown.replace("\n  | ", "").count("y" * 800) == 1


def test_no_text_id_or_class_can_move_the_cursor(texts):
    write(texts, {"id": "\x1b[2Ja", "text": "hello\x1b[1A\rregister > 2", "factors": {}})
    shown, _ = label(texts, "q", classes={"register": ["\x1bone", "two"]})
    assert shown.replace("\n", "").isprintable()


def test_an_interruption_keeps_what_was_answered(texts):
    count = 0

    def interrupt() -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    _, asked = label(texts, "1", "2", "3", watch=interrupt)
    assert asked == Interview(answered=2, skipped=0, finished=False)
    assert labels(texts) == {"a": 1, "b": 2}


def test_a_file_that_another_program_changed_is_left_alone(texts):
    output = texts.with_name("out.jsonl")

    def change() -> None:
        if output.exists():
            write(output, {"id": "z", "text": "of another program"})

    with pytest.raises(ConfigError, match=r"out\.jsonl was changed by another program"):
        label(texts, "1", "2", watch=change)
    assert [record.id for record in read_records(output)] == ["z"]
    assert label(texts, "1", "q")[1].answered == 1
    assert [record.id for record in read_records(output)] == ["z", "a"]


def test_an_output_of_other_texts_is_refused(texts):
    write(texts.with_name("out.jsonl"), {"id": "b", "text": "another", "factors": {"x": 1}})
    with pytest.raises(ConfigError, match=r"out\.jsonl:1: 'b' is another text than at .*:2; give"):
        label(texts, "1")
    with pytest.raises(ConfigError, match="which would be lost"):
        label(texts, "1", output="texts.jsonl")


def test_a_name_that_ends_in_gz_is_gzipped_and_gone_on_from(texts):
    label(texts, "1", "q", output="out.jsonl.gz")
    label(texts, "2", "q", output="out.jsonl.gz")
    with gzip.open(texts.with_name("out.jsonl.gz"), "rt") as stream:
        assert [json.loads(line)["factors"] for line in stream] == [
            *({"register": 1.0}, {"register": 2.0})
        ]


def test_comparisons_are_what_was_answered(texts):
    shown, asked = compare(texts, "1", "3", "", "2", "q")
    assert asked == Interview(answered=2, skipped=1, finished=False)
    assert "'3' is no answer: answer by 1 or 2" in shown
    places = [line[3:] for line in shown.splitlines() if line.startswith(("1: ", "2: "))]
    assert read_comparisons(texts.with_name("pairs.jsonl")) == (
        Comparison("depth", more=places[0], less=places[1]),
        Comparison("depth", more=places[5], less=places[4]),
    )


def test_pairs_are_not_repeated_undone_ones_are_gone_and_skipped_ones_come_last(texts):
    pairs = texts.with_name("pairs.jsonl")
    compare(texts, "1", "2", "u", "q")
    assert len(read_comparisons(pairs)) == 1
    first, _ = compare(texts, "", "q")
    skipped = [line for line in first.splitlines() if line[:3] in ("1: ", "2: ")][:2]
    shown, asked = compare(texts, *"1" * 14)
    assert asked == Interview(answered=15, skipped=0, finished=True)
    assert [line for line in shown.splitlines() if line[:3] in ("1: ", "2: ")][-2:] == skipped
    found = read_comparisons(pairs)
    assert len({frozenset((one.more, one.less)) for one in found}) == 15
    compare(texts, *["u"] * 15, "q")
    assert not pairs.exists()


def test_both_texts_of_a_pair_can_be_read_on(texts):
    write(texts, {"id": "a", "text": "x" * 801}, {"id": "b", "text": "short"})
    shown, _ = compare(texts, "m", "m", "1")
    assert shown.count(", continued:") == 1
    assert shown.count("that was all of it") == 1


def test_what_cannot_be_compared_is_said(texts):
    with pytest.raises(ConfigError, match="two texts or more"):
        compare(texts, ids=["a"])
    write(texts.with_name("pairs.jsonl"), {"id": "a", "text": "no comparison"})
    with pytest.raises(RecordError, match=r"pairs\.jsonl:1: 'factor' must be a text"):
        compare(texts, "1")
