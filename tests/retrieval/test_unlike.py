"""Negative examples take their inner products away, by block, and are not found themselves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_world import LAYOUT, OTHER, QUERY, RECORDS, TEXTS, ids, make_model

from subspace.errors import QueryError, WeightsError
from subspace.retrieval import Index, Like, WeightBandit, explain

SPREADS = {"topic": 0.1, "style": 0.4, "complexity": 0.3, "specificity": 0.05, "residual": 0.2}
WEIGHTS = {"topic": 1.0, "style": 0.5, "residual": 0.2}


@pytest.fixture(scope="module")
def index(tiny_qwen, tmp_path_factory):
    model = replace(make_model(tiny_qwen), score_spreads=SPREADS)
    folder = tmp_path_factory.mktemp("unlike")
    with Index.create(
        folder / "index",
        model,
        RECORDS,
        usage=folder / "usage.db",
        bandit=WeightBandit(folder / "arms.db", seed=0),
    ) as index:
        yield index
    index.bandit.close()


def parts(index, query, **options) -> dict[str, np.ndarray]:
    """Relevance of every block (blocks,) by id."""
    found = index.search(query, weights=WEIGHTS, k=len(TEXTS), **options)
    return {hit.id: np.array([hit.parts[b]["relevance"] for b in LAYOUT]) for hit in found}


EXAMPLES = {
    "a text": OTHER,
    "an item": Like("cake"),
    "one of them by block": {"style": Like("court"), "topic": OTHER},
}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_an_example_takes_away_what_it_would_add_as_a_query(index, example, weight):
    plain, alone = parts(index, QUERY), parts(index, example)
    found = parts(index, QUERY, unlike=example, unlike_weight=weight)
    assert found.keys() == alone.keys()  # items among the examples are not found
    for name, part in found.items():
        assert part == pytest.approx(plain[name] - weight * alone[name], abs=1e-5)
    assert index.search(QUERY, unlike=example).unlike == (example,)


def test_several_examples_count_as_their_mean_by_block(index):
    examples = [OTHER, Like("cake"), {"style": Like("court")}]
    plain, each = parts(index, QUERY), [parts(index, one) for one in examples]
    found = parts(index, QUERY, unlike=examples, unlike_weight=1)
    assert "cake" not in found and "court" not in found
    counts = np.array([3 if block == "style" else 2 for block in LAYOUT])
    for name, part in found.items():
        mean = sum(one[name] for one in each) / counts
        assert part == pytest.approx(plain[name] - mean, abs=1e-5)


@given(
    examples=st.lists(st.sampled_from([*TEXTS, OTHER]), min_size=1, max_size=4),
    weight=st.floats(0.25, 4),
    k=st.integers(1, 12),
)
@settings(max_examples=25)
def test_hits_are_less_like_the_examples_than_without_them(index, examples, weight, k):
    unlike = [Like(name) if name in TEXTS else name for name in examples]
    k = min(k, len(TEXTS) - len(set(examples) & set(TEXTS)))
    weights = {"topic": 1.0}
    found = index.search(QUERY, weights=weights, unlike=unlike, unlike_weight=weight, k=k)
    plain = index.search(QUERY, weights=weights, exclude=[e for e in examples if e in TEXTS], k=k)
    place = index.layout.slice("topic")
    away = index.embed(unlike)[:, place].mean(axis=0)

    def nearness(results) -> float:
        vectors = index.blocks.engine.fetch(ids(results)).vectors[:, place]
        return float((vectors @ away).sum())

    assert nearness(found) <= nearness(plain) + 1e-4
    assert len(found) == len(plain) == k


def test_nothing_changes_without_examples_or_weight(index):
    plain = index.search(QUERY, weights=WEIGHTS, k=12)
    for options in ({"unlike": []}, {"unlike": None}, {"unlike": OTHER, "unlike_weight": 0}):
        assert index.search(QUERY, weights=WEIGHTS, k=12, **options).hits == plain.hits
    other = index.search(QUERY, weights=WEIGHTS, k=12, unlike=OTHER)
    assert ids(other) != ids(plain)


def test_examples_go_with_history_toward_the_bandit_and_batches(index):
    index.use({"bread": 1.0})
    for options in (
        {"preset": "balanced"},
        {"preset": "auto"},
        {"toward": "complexity=-1"},
        {"candidates": 4, "preset": "balanced"},
    ):
        found = index.search(QUERY, unlike=[Like("soup"), OTHER], **options)
        assert "soup" not in ids(found)
        assert found.unlike == (Like("soup"), OTHER)
    several = index.search_batch([QUERY, OTHER], weights="topic=1", unlike=Like("cake"))
    for query, found in zip([QUERY, OTHER], several, strict=True):
        alone = index.search(query, weights="topic=1", unlike=Like("cake"))
        assert ids(found) == ids(alone)


def test_blocks_of_examples_count_by_default_beside_a_composed_query(index):
    model = index.model.changed(default_weights={b: float(b == "topic") for b in LAYOUT})
    other = Index(model.changed(projection=index._given.projection), index.blocks)
    found = other.search({"topic": QUERY}, unlike={"style": Like("cake")})
    assert dict(zip(LAYOUT, found.weights.relevance, strict=True))["style"] == 1
    with pytest.raises(QueryError, match="'style', which has no weight in this search"):
        other.search(QUERY, unlike={"style": Like("cake")})


def test_an_explanation_says_that_relevance_is_less(index):
    found = index.search(QUERY, unlike=[OTHER, Like("cake")])
    text = explain(found, found[0].id).text
    assert "less what the mean of 2 examples takes away" in text
    assert "takes away" not in explain(index.search(QUERY), "bread").text


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"unlike": Like("nobody")}, QueryError, "not in the index: nobody"),
        ({"unlike": 3}, QueryError, "a query is a text"),
        ({"unlike": [QUERY, None]}, QueryError, "a query is a text"),
        ({"unlike": {}}, QueryError, "for one at least"),
        ({"unlike": {"tone": OTHER}}, QueryError, "'tone'"),
        ({"unlike": {"residual": OTHER}, "weights": "topic=1"}, QueryError, "has no weight"),
        ({"unlike": OTHER, "unlike_weight": -1}, WeightsError, "of unlike_weight must be"),
        ({"unlike": OTHER, "unlike_weight": float("nan")}, WeightsError, "of unlike_weight"),
    ],
)
def test_wrong_examples_are_refused(index, options, error, says):
    with pytest.raises(error, match=says):
        index.search(QUERY, **options)
