"""A rubric says which labels there are; a wrong one is refused with everything that is wrong."""

import math

import pytest
import yaml

from subspace.errors import ConfigError
from subspace.labelling.rubric import DEFAULT_RUBRIC, read_rubric

LEVEL = {"meaning": "m", "example": "e"}
GOOD = {
    "mood": {"description": "d", "levels": {"glad": LEVEL, "sad": LEVEL}},
    "age": {"description": "d", "scale": [-1, 2], "levels": {2: LEVEL, -1: LEVEL}},
}


def write(tmp_path, value):
    path = tmp_path / "rubric.yaml"
    path.write_text(
        value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=False),
        encoding="utf-8",
    )
    return path


def test_the_shipped_rubric_has_the_projects_factors_and_an_example_of_every_level():
    rubric = read_rubric()
    assert set(rubric) == {"topic", "style", "complexity", "specificity"}
    for factor in rubric.values():
        assert [level.label for level in factor.levels] == list(factor.labels)
    assert str(DEFAULT_RUBRIC).endswith("rubric.yaml")


def test_labels_are_read_as_records_know_them_and_nothing_else_is_a_label(tmp_path):
    rubric = read_rubric(write(tmp_path, GOOD), factors=["age", "mood"])
    assert tuple(rubric) == ("age", "mood")
    assert rubric["age"].labels == (-1, 0, 1, 2)
    assert [level.label for level in rubric["age"].levels] == [-1, 2]
    assert [rubric["age"].read(answer) for answer in (-1, 0, 2, 2.0)] == [-1.0, 0.0, 2.0, 2.0]
    assert all(isinstance(rubric["age"].read(answer), float) for answer in (0, 1))
    for answer in (3, 0.5, "1", True, None, [1], {}, math.nan, math.inf):
        assert rubric["age"].read(answer) is None
    assert rubric["mood"].read("sad") == "sad"
    for answer in ("Sad", "", 0, None, ["sad"]):
        assert rubric["mood"].read(answer) is None


def factor(**changes):
    return {"mood": {**GOOD["mood"], **changes}}


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("[1, 2]", "must hold factors by name"),
        ("a: [", "cannot read"),
        ({"id": GOOD["mood"]}, "other than 'id'"),
        ({"mood": {"description": "d"}}, "mood: must have a description and levels"),
        (factor(description=" "), "mood: the description must be a text"),
        (factor(extra=1), "mood: has an unknown key 'extra'"),
        (factor(levels={"glad": LEVEL}), "mood: levels must hold two or more"),
        (factor(levels={"glad": LEVEL, "sad": {"meaning": "m"}}), "level 'sad' must have a mean"),
        (factor(levels={"glad": LEVEL, "sad": {**LEVEL, "example": 3}}), "level 'sad' must be tex"),
        (factor(levels={True: LEVEL, "no": LEVEL}), "category True must be a text"),
        (factor(levels={1: LEVEL, 2: LEVEL}), "numbers need a scale"),
        (factor(scale=[1, 2]), r"levels \['glad', 'sad'\] are not whole numbers from 1 to 2"),
        (factor(scale=[1, 2.5]), "two whole numbers"),
        (factor(scale=[5, 1]), "must be 1 to 100 above the first"),
        (factor(scale=[1, 5], levels={1: LEVEL, 4: LEVEL}), "include both ends"),
    ],
)
def test_what_is_wrong_with_a_rubric_is_said(tmp_path, value, match):
    with pytest.raises(ConfigError, match=match):
        read_rubric(write(tmp_path, value))


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigError) as info:
        read_rubric(write(tmp_path, {"a": 1, "b": {**GOOD["mood"], "scale": 3}}))
    assert "a: must have" in str(info.value)
    assert "b: scale must be" in str(info.value)


def test_a_factor_that_the_rubric_does_not_know_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"lacks taste; it describes mood, age"):
        read_rubric(write(tmp_path, GOOD), factors=["mood", "taste"])
    with pytest.raises(ConfigError, match="cannot read"):
        read_rubric(tmp_path / "nowhere.yaml")
