"""A session ranks as a search does, and encodes a query once."""

from dataclasses import replace

import numpy as np
import pytest
from retrieval_world import LAYOUT, OTHER, QUERY, TEXTS, ids

from subspace.data import Rating, Record
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError, EncoderError
from subspace.explore.comparing import choose_pairs
from subspace.explore.session import ExplorerQuery, Session
from subspace.retrieval import Index, Weights

MIX = {"style": 1.0, "topic": 0.2}


@pytest.mark.parametrize("scope", ["block", "item"])
@pytest.mark.parametrize(
    ("typed", "query"),
    [
        (ExplorerQuery(QUERY), QUERY),
        (ExplorerQuery(" ", OTHER, "style"), {"style": OTHER}),
        (
            ExplorerQuery(QUERY, OTHER, "style"),
            {name: OTHER if name == "style" else QUERY for name in LAYOUT},
        ),
    ],
    ids=["text", "style alone", "both"],
)
def test_a_ranking_is_a_search(session, index, typed, query, scope):
    weights = Weights.make(layout=LAYOUT, blocks=MIX, preset="balanced")
    options = {"weights": weights, "scope": scope}
    ranking, default = session.rank(typed, **options), session.rank(typed)
    found = index.search(query, k=100, **options)
    assert ranking.found.hits == found.hits
    assert ranking.found.weights == found.weights == weights
    assert default.found.hits == index.search(query, k=100).hits
    assert ids(ranking.found) != ids(default.found)
    assert ranking.ranks()[ranking.found[2].id] == 3


def test_weights_are_scaled_and_without_any_the_models_count(session, model):
    scaled = session.default_weights.scaled(model.score_scales)
    assert scaled != session.default_weights
    vector = session.run(lambda: session.index.embed([QUERY])[0])
    found = session.run(lambda: session.index.blocks.search(vector, weights=scaled, k=100))
    assert session.rank(ExplorerQuery(QUERY)).found.hits == found.hits


def test_other_weights_encode_nothing(session, model):
    first = session.rank(ExplorerQuery(QUERY), weights=Weights.make(layout=LAYOUT, blocks=MIX))
    session.index.model = replace(model, encoder=EncoderSpec(model="nowhere"))
    assert ids(session.rank(ExplorerQuery(QUERY)).found) != ids(first.found)
    with pytest.raises(EncoderError):
        session.rank(ExplorerQuery(OTHER))


def test_the_default_ranking_is_kept_for_one_query_alone(session):
    first = session.rank_default(ExplorerQuery(QUERY))
    assert session.rank_default(ExplorerQuery(QUERY), again=False) is first
    other = session.rank_default(ExplorerQuery(OTHER), again=False)
    assert ids(other.found) != ids(first.found)
    assert session.rank_default(ExplorerQuery(OTHER)) is not other
    assert session.rank_default(ExplorerQuery(" ")) is None


@pytest.mark.parametrize("preset", [None, "balanced"])
def test_the_average_text_scores_what_all_score_on_average(session, preset):
    weights = Weights.make(layout=LAYOUT, blocks=MIX, preset=preset)
    ranking = session.rank(ExplorerQuery(QUERY), weights=weights)
    assert len(ranking.found) == len(TEXTS) + 1
    mean = np.mean([hit.score for hit in ranking.found])
    assert ranking.average.score == pytest.approx(mean, abs=1e-6)
    assert ranking.average.score < ranking.found[0].score


def test_a_curve_is_what_searches_at_every_weight_find(session, index):
    """Of twelve texts ten are hits, so that a weight has little to choose from: by hand."""
    query, blocks = ExplorerQuery(QUERY), {"topic": 1.0, "style": 0.3}
    curve = session.curve(query, "style", blocks=blocks)
    vector = index.embed([QUERY])[0]
    every = index.blocks.engine.sample(100).vectors
    plain = session.default_weights.scaled(index.model.score_scales).fold(vector[None])[0]
    place = LAYOUT.slice("style")

    def scores(weights) -> tuple[float, float]:
        hits = index.search(QUERY, weights=weights, k=10)
        found = index.blocks.engine.fetch(ids(hits)).vectors - every.mean(axis=0)
        return (found @ plain).mean(), (found[:, place] @ vector[place]).mean()

    best, _ = scores(None)
    spread = index.blocks.score_spread.blocks["style"]
    for position in (0, 4, 10):
        kept, alike = scores({**blocks, "style": max(curve.weights[position], 1e-6)})
        assert curve.kept[position] == pytest.approx(kept / best, abs=1e-4)
        assert curve.alike[position] == pytest.approx(alike / spread, abs=1e-4)
    assert curve.alike[-1] >= curve.alike[0]
    # Its own slider changes no curve, every other weight does.
    moved = session.curve(query, "style", blocks={**blocks, "style": 0.8})
    np.testing.assert_array_equal(moved.alike, curve.alike)
    other = session.curve(query, "style", blocks={**blocks, "topic": 0.1})
    assert not np.array_equal(other.alike, curve.alike)
    # Of two texts, the default ranking is that of both, where the slider is at its default.
    both = ExplorerQuery(QUERY, OTHER, "style")
    default = session.index.default_weights(both.to_query(LAYOUT))
    sliders = {name: weight / max(default.values()) for name, weight in default.items()}
    assert sliders["style"] == 1
    kept = session.curve(both, "style", blocks=sliders).kept
    assert kept[-1] == pytest.approx(1, abs=1e-6)
    assert kept.max() <= 1 + 1e-6
    assert session.curve(ExplorerQuery(" "), "style", blocks=blocks) is None
    alone = session.curve(query, "style", blocks={"style": 0.0})
    assert np.ptp(alone.alike) < 1e-9  # what else has no weight: any is the same


def test_nothing_typed_is_no_query(session):
    assert session.rank(ExplorerQuery("  ", "\n", "style")) is None


def test_recency_without_a_usage_log_is_refused(model, folder):
    recency = Weights.make(layout=LAYOUT, riv=(1, 0, 0))
    with (
        Session(lambda: Index.open(folder, model)) as session,
        pytest.raises(ConfigError, match="no usage log"),
    ):
        session.rank(ExplorerQuery(QUERY), weights=recency)


def test_a_direction_of_ratings_ranks_as_a_search_toward_it(session, index):
    names = list(TEXTS)
    place = LAYOUT.slice("style")
    z = index.blocks.engine.fetch(names)
    style = z.vectors[:, place] - z.vectors[:, place].mean(axis=0)
    side = np.linalg.svd(style)[0][:, 0] > 0
    likes = {record.id: float(one) for record, one in zip(z.documents, side, strict=True)}
    ratings = [
        Rating(f"q{n}", name, likes[name]) for n in range(12) for name in np.roll(names, n)[:6]
    ]
    liked = session.liked(ratings)
    assert liked is session.liked(ratings)
    assert "72 ratings, trusted" in liked.told
    view = index.view()
    view.adapt(ratings=ratings)
    found = session.rank(ExplorerQuery(QUERY), liked=liked.direction, strength=0.5).found
    assert found.hits == view.search(QUERY, toward="liked=0.5", k=100).hits
    assert session.liked([]).direction is None
    assert "liked" not in session.index.model.directions


def test_a_page_gets_what_its_own_ratings_say_while_another_asks(session):
    class Interrupted(Rating):
        """Another page asks while these ratings are compared with the last ones."""

        def __eq__(self, other: object) -> bool:
            assert session.liked([]).told == ""
            return True

    few = session.liked([Rating("q", "bread", 1.0)])
    assert "1 rating" in few.told
    assert session.liked([Interrupted("q", "bread", 1.0)]) is few


def test_texts_are_compared_in_every_pair_once_and_the_same_at_every_call(session):
    pairs = session.pairs("complexity")
    names = [frozenset((one.id, other.id)) for one, other in pairs]
    assert len({*names}) == len(names) > len(TEXTS)
    assert [(a.id, b.id) for a, b in choose_pairs(session.index, "complexity")] == [
        (a.id, b.id) for a, b in pairs
    ]
    assert {name for pair in names for name in pair} <= {*TEXTS, "markup"}


def test_one_text_has_no_other_to_be_compared_with_nor_has_its_copy(model, tmp_path):
    with Index.create(tmp_path / "index", model) as index:
        assert choose_pairs(index, "complexity") == []
        index.add([Record(id="a", text="one text alone"), Record(id="b", text="two words")])
        assert choose_pairs(index, "complexity") == []
        index.add([Record(id="c", text="one text alone")])
        assert choose_pairs(index, "complexity") == []
