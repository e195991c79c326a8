"""The file of answers survives crashes, and one run holds it at a time."""

import resource

import pytest

from subspace.errors import ConfigError, RecordError
from subspace.labelling.language_model_answers import AnswerFile, answer_key


def key(text, **changes):
    return answer_key(text, **({"model": "m", "instructions": "i"} | changes))


def test_what_was_added_is_there_again_and_the_first_label_stays(tmp_path):
    path = tmp_path / "folder" / "answers.jsonl"
    with AnswerFile.open(path) as answers:
        answers.add({key("a"): {"style": "é"}})
        answers.add({key("a"): {"style": "formal", "complexity": 2.0}, key("b"): {}})
    with AnswerFile.open(path) as answers:
        assert answers.get(key("a")) == {"style": "é", "complexity": 2.0}
        assert answers.get(key("b")) == answers.get(key("c")) == {}


def test_a_key_is_of_all_that_an_answer_depends_on():
    changes = [{}, {"model": "n"}, {"instructions": "j"}, {"turn": 2}]
    assert len({key("a", **change) for change in changes} | {key("b")}) == 5
    assert key("a") == key("a")


def test_a_line_torn_by_a_crash_at_any_byte_costs_that_line_alone(tmp_path):
    path = tmp_path / "answers.jsonl"
    with AnswerFile.open(path) as answers:
        answers.add({key("a"): {"style": "x"}})
        first = path.stat().st_size
        answers.add({key("b"): {"style": "y"}})
    whole = path.read_bytes()
    for size in range(first, len(whole)):
        path.write_bytes(whole[:size])
        with AnswerFile.open(path) as answers:
            assert answers.get(key("a")) == {"style": "x"}
            assert answers.get(key("b")) == {}
            answers.add({key("b"): {"style": "y"}})
        assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "content", ["mine", '{"id": "a"}\n', '{"key": "t1", "factors": {"a": null}}\n', '{"key": 1}\n']
)
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "answers.jsonl"
    path.write_text(content)
    match = "not an answer of a language model"
    with pytest.raises(RecordError, match=match), AnswerFile.open(path):
        raise AssertionError
    assert path.read_text() == content


def test_two_runs_do_not_share_it(tmp_path):
    path = tmp_path / "answers.jsonl"
    second = AnswerFile.open(path)
    with AnswerFile.open(path), pytest.raises(ConfigError, match="another run"), second:
        raise AssertionError
    with AnswerFile.open(path):
        pass


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="--answers: cannot write"), AnswerFile.open(tmp_path):
        raise AssertionError


def test_a_full_disk_is_named_and_leaves_no_half_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with AnswerFile.open(path) as answers:
        answers.add({key("a"): {"style": "x"}})
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(ConfigError, match="--answers: cannot write"):
                answers.add({key("b"): {"style": "y"}})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size
        answers.add({key("c"): {"style": "z"}})
    with AnswerFile.open(path) as answers:
        assert [answers.get(key(name)) for name in "ac"] == [{"style": "x"}, {"style": "z"}]
