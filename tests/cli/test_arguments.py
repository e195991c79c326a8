"""Filters are read from the command line as they are meant, or refused in one sentence."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.cli.arguments import read_filters
from subspace.errors import ConfigError, QueryError
from subspace.model.toward import read_toward
from subspace.retrieval.engines.filters import check_where


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["lang=en"], {"lang": ["en"]}),
        (["year=5", "year=6"], {"year": [5, "5", 6, "6"]}),
        (['year="5"'], {"year": ["5"]}),
        (["year>=2020", "year < 2024"], {"year": {">=": 2020, "<": 2024}}),
        (["date>2020-01-01"], {"date": {">": "2020-01-01"}}),
        (['year<="2020"'], {"year": {"<=": "2020"}}),
        (["note=a>=b=c"], {"note": ["a>=b=c"]}),
        (['"a=b>c"=d'], {"a=b>c": ["d"]}),
        (["note=two\nlines"], {"note": ["two\nlines"]}),
        (["big=100000000000000000000"], {"big": [10**20, "100000000000000000000"]}),
        (["x=1e999"], {"x": ["1e999"]}),
        (["x=" + "9" * 5000], {"x": ["9" * 5000]}),
        (["x=NaN"], {"x": ["NaN"]}),
    ],
    ids=lambda value: f"{value!r:.40}",
)
def test_what_a_filter_stands_for(given, read):
    assert read_filters(given) == read


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["topic"], "--where must read like"),
        (["=x"], "--where must read like"),
        (["x="], "--where must read like"),
        (['"x=1'], "--where must read like"),
        (["x=1", "x>0"], "values or a range of 'x', not both"),
        (["x>0", "x>1"], "'x' has > twice"),
    ],
)
def test_what_is_no_filter_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        read_filters(given)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(st.sampled_from("ab=,-1.e9 \n"), max_size=20))
def test_any_text_is_a_direction_or_one_sentence(text):
    try:
        found = read_toward(text)
    except QueryError as error:
        assert str(error)
        return
    assert all(name and math.isfinite(value) for name, value in found.items())


TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from('ab"\\=<> 1.e\n[{')) | st.text())
def test_any_text_is_a_filter_or_one_sentence(text):
    try:
        read = read_filters([text])
    except ConfigError:
        return
    assert len(read) == 1
    assert all(name and value for name, value in read.items())


@settings(max_examples=100, deadline=None)
@given(TEXTS.filter(bool), TEXTS | st.integers() | st.booleans())
def test_any_name_and_value_can_be_asked_for(name, value):
    condition = check_where(read_filters([f"{json.dumps(name)}={json.dumps(value)}"]))[0]
    assert condition.name == name
    assert condition.holds(value)
    assert condition.holds(["other", value])
