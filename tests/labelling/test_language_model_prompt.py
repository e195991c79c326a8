"""What is asked holds all of the rubric; of an answer, what fits the rubric is used."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.labelling.language_model_prompt import (
    make_batches,
    make_instructions,
    make_schema,
    make_texts,
    read_answer,
)
from subspace.labelling.rubric import read_rubric

RUBRIC = read_rubric(factors=["complexity", "style"])
GOOD = {"id": "t1", "complexity": 4, "style": "formal"}


def test_the_model_is_shown_every_level_and_its_example():
    shown = make_instructions(RUBRIC)
    for name, factor in RUBRIC.items():
        assert f"{name}: " in shown
        for level in factor.levels:
            assert f"- {level.label}: {level.meaning}." in shown
            assert json.dumps(level.example, ensure_ascii=False) in shown
    assert "topic" not in shown


def test_the_schema_holds_every_factor_and_nothing_else():
    entry = make_schema(RUBRIC)["properties"]["labels"]["items"]
    assert entry["required"] == ["id", "complexity", "style"]
    assert entry["properties"]["complexity"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    assert entry["properties"]["style"]["enum"] == list(RUBRIC["style"].labels)
    assert entry["additionalProperties"] is False


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_texts_cannot_leave_their_string(texts):
    sent = json.loads(make_texts(texts))
    assert sent == {"texts": [{"id": k, "text": v} for k, v in texts.items()]}


def test_batches_hold_every_text_once_in_order():
    texts = {str(n): f"text {n}" for n in range(7)}
    batches = make_batches(texts, 3)
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert [pair for batch in batches for pair in batch.items()] == list(texts.items())


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"labels": [GOOD]}),
        f"```json\n{json.dumps({'labels': [GOOD]})}\n```",
        f'<think>{{"labels": []}}</think> Here: {json.dumps({"labels": [GOOD]})} Done.',
        json.dumps({"labels": [{**GOOD, "reason": "rare words"}]}),
    ],
)
def test_an_answer_is_found_in_what_is_around_it(content):
    found, problem = read_answer(content, ids=["t1", "t2"], rubric=RUBRIC)
    assert found == {"t1": {"complexity": 4.0, "style": "formal"}}
    assert problem == ""


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "no", "[]", "{}", '{"labels": 3}', '{"labels": [3]}', '{"labels": [{}]}'),
        *('{"labels": null}', '{"labels": {"id": "t1"}}', json.dumps({"labels": [GOOD]})[:-1]),
        '{"labels":' * 9999 + "}",
    ],
)
def test_what_is_no_answer_gives_nothing(content):
    found, problem = read_answer(content, ids=["t1"], rubric=RUBRIC)
    assert found == {}
    assert "not JSON" in problem


@pytest.mark.parametrize("others", [["t1"], ["t3"]])
def test_with_one_id_wrong_no_label_is_trusted(others):
    entries = [GOOD, *({**GOOD, "id": other} for other in others)]
    found, problem = read_answer(json.dumps({"labels": entries}), ids=["t1", "t2"], rubric=RUBRIC)
    assert found == {}
    assert "mixes up the ids" in problem


def test_a_label_outside_the_rubric_costs_that_label_alone():
    entries = [{**GOOD, "complexity": 6}, {**GOOD, "id": "t2", "style": ["formal"]}]
    found, _ = read_answer(json.dumps({"labels": entries}), ids=["t1", "t2"], rubric=RUBRIC)
    assert found == {"t1": {"style": "formal"}, "t2": {"complexity": 4.0}}
