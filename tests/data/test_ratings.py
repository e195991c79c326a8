"""Ratings of hits are compared within one search, and what is no rating is said or left out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.data import Comparison, Rating, compare_rated, read_ratings
from subspace.errors import RecordError

RATINGS = st.lists(
    st.builds(
        Rating, st.sampled_from("pq"), st.sampled_from("abcdef"), st.floats(0, 1), st.just("liked")
    ),
    max_size=12,
)


@given(RATINGS)
def test_what_did_clearly_better_in_the_same_search_is_compared_and_no_more(ratings):
    found = compare_rated(ratings)
    success = {(one.query, one.item): one.success for one in ratings}  # the last one counts
    assert len(found) <= len(success)
    searches = {query for query, _ in success}
    for one in found:
        assert any(success.get((q, one.more), -1) > success.get((q, one.less), 2) for q in searches)
    for query in searches:
        own = [value for (q, _), value in success.items() if q == query]
        told = [one for one in ratings if one.query == query]
        assert bool(compare_rated(told)) == (max(own) - min(own) >= 0.5)


def test_every_hit_that_is_not_in_the_middle_is_compared():
    rated = {"a": 1.0, "b": 0.9, "c": 0.5, "d": 0.1, "e": 0.0, "f": 0.0}
    found = compare_rated([Rating("q", item, success) for item, success in rated.items()])
    assert found == (
        Comparison("liked", "a", "d"),
        Comparison("liked", "b", "e"),
        Comparison("liked", "a", "f"),
    )
    # Who rates everything alike, or two searches apart, has compared nothing.
    assert compare_rated([Rating("q", "a", 1.0), Rating("q", "b", 0.6)]) == ()
    assert compare_rated([Rating("q", "a", 1.0), Rating("p", "b", 0.0)]) == ()


def test_ratings_of_several_readers_are_not_mixed(tmp_path):
    path = tmp_path / "all.jsonl"
    line = {"item": "a", "success": 1, "query": "q"}
    path.write_text("".join(json.dumps({**line, "namespace": n}) + "\n" for n in ("", "alice")))
    with pytest.raises(RecordError, match=r"several namespaces \('', 'alice'\): export one"):
        read_ratings(path)
    path.write_text("".join(json.dumps(line) + "\n" for _ in range(2)))
    assert len(read_ratings(path)) == 2


def test_what_feedback_exports_is_read_and_uses_without_a_rating_are_left_out(tmp_path):
    lines = [
        {"id": "log:1", "item": "a", "time": 1.0, "success": 1, "query": "q", "clock": "wall"},
        {"item": "b", "success": None, "query": "q"},
        {"item": "c", "success": 0.5, "query": None},
        {"item": "d", "success": 0.0, "query": "making tea"},
    ]
    path = tmp_path / "ratings.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert read_ratings(path, factor="plain") == (
        Rating("q", "a", 1.0, "plain"),
        Rating("making tea", "d", 0.0, "plain"),
    )
    for wrong, message in (
        ({"item": "a", "query": "q", "success": 2}, r"ratings.jsonl:1: `success` must be a number"),
        ({"item": "a", "query": "q", "success": True}, "from 0 to 1, got True"),
        ({"item": "", "query": "q", "success": 1}, "'item' must be a text"),
        ({"item": "a"}, "holds no ratings"),
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(RecordError, match=message):
            read_ratings(path)
