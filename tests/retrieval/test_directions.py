"""Toward a factor: nothing at zero, monotone in the factor, one inner product, explained."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from retrieval_world import LAYOUT, QUERY, RECORDS, TEXTS, ids
from scipy.stats import spearmanr

from subspace.cli.main import main
from subspace.data.records import Record
from subspace.errors import ConfigError, QueryError
from subspace.model.toward import make_direction, read_toward
from subspace.retrieval import Index, Like, SearchOptions, Weights
from subspace.retrieval.directions import add_direction, search_toward

WEIGHTS = ("topic=1", "residual=1,complexity=0.5", "riv=0.2,0.2,0.6")
SPREADS = {"topic": 0.1, "style": 0.4, "complexity": 0.3, "specificity": 0.05, "residual": 0.2}


@pytest.fixture(scope="module", params=[{}, SPREADS], ids=["as they are", "scaled"])
def spread_model(model, request):
    """With scores of all blocks as they are, or brought to one deviation."""
    return replace(model, score_spreads=request.param)


@pytest.fixture
def index(spread_model, folder, log):
    log.add([("soup", 1.0)])
    log.add([("court", 0.0)])
    with Index.open(folder, spread_model, usage=log.path) as index:
        yield index


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("directions") / "index"
    with Index.create(folder, model) as index:
        index.add(RECORDS)
    return folder


def numbers(index, name) -> dict[str, float]:
    """How far every text lies in a direction that, as far as 12 texts tell, ignores length."""
    found = index.blocks.engine.fetch(list(TEXTS))
    words = np.log([len(document.text.split()) for document in found.documents])
    direction = index.model.direction(name).astype(np.float64)
    z = found.vectors.astype(np.float64)
    covariance, slope = np.zeros((2, len(direction)))
    for place in (index.layout.slice(name) for name in index.layout):
        if direction[place].any():
            own = z[:, place]
            covariance[place] = [np.cov(column, words, bias=True)[0, 1] for column in own.T]
            scatter = np.cov(own.T, bias=True)
            smoothed = scatter + 0.1 * np.trace(scatter) / len(scatter) * np.eye(len(scatter))
            slope[place] = np.linalg.inv(smoothed) @ covariance[place]
    direction -= 12 / (12 + 50) * slope * (covariance @ direction) / (covariance @ slope)
    values = (found.vectors @ direction).tolist()
    return {d.id: v for d, v in zip(found.documents, values, strict=True)}


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("candidates", [None, 5])
def test_zero_changes_nothing(index, weights, candidates):
    options = {"weights": weights, "candidates": candidates, "k": 5}
    plain = index.search(QUERY, **options)
    zero = index.search(QUERY, toward="complexity=0", **options)
    assert zero.hits == plain.hits
    assert zero.weights == plain.weights
    assert index.search(QUERY, toward="complexity=3", **options).hits != plain.hits


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("scope", ["block", "item"])
def test_the_score_is_the_plain_one_plus_deviations_of_the_factor(index, weights, scope):
    toward = {"complexity": -0.7, "specificity": 0.4}
    options = {"weights": weights, "scope": scope, "k": len(TEXTS)}
    plain = index.search(QUERY, **options)
    table = plain.weights.scaled(index.model.score_scales)
    spread = index.blocks.score_spread.blocks
    unit = np.sqrt(
        sum((w * spread[b]) ** 2 for b, w in zip(table.layout, table.relevance, strict=True))
    )
    wanted = {hit.id: hit.score for hit in plain}
    for factor, count in toward.items():
        own = numbers(index, factor)
        mean, deviation = np.mean(list(own.values())), np.std(list(own.values()))
        for name, value in own.items():
            wanted[name] += count * unit * (value - mean) / deviation
    found = index.search(QUERY, toward=toward, **options)
    assert ids(found) == sorted(wanted, key=lambda name: -wanted[name])
    for hit in found:
        assert hit.score == pytest.approx(wanted[hit.id], abs=2e-5)
        assert hit.score == pytest.approx(sum(hit.by_block().values()))


def test_folded_and_explicit_are_the_same(index):
    weights = index.blocks.weights("residual=1,style=0.3")
    factors = {"complexity": -0.5, "specificity": 1.0}
    direction = make_direction(
        factors,
        directions={factor: index.model.direction(factor) for factor in factors},
        sample=index.blocks.document_sample,
        relevance=weights.relevance,
    )
    folded, explicit = (
        search_toward(
            index.blocks,
            index.embed([QUERY, Like("court")]),
            weights=weights,
            direction=direction,
            options=SearchOptions(k=6, candidates=candidates),
            own=[[], ["court"]],
        )
        for candidates in (None, len(TEXTS))
    )
    for one, other in zip(folded, explicit, strict=True):
        assert ids(one) == ids(other)
        np.testing.assert_allclose(
            [hit.score for hit in one], [hit.score for hit in other], atol=2e-5
        )


@pytest.mark.parametrize("factor", ["complexity", "specificity"])
def test_the_further_toward_the_more_of_it(index, factor):
    own = numbers(index, factor)
    means = [
        np.mean([own[hit.id] for hit in index.search(QUERY, toward={factor: count}, k=4)])
        for count in (-100, -2, -0.5, 0, 0.5, 2, 100)
    ]
    assert all(np.diff(means) > -1e-12)  # the same hits in another order differ by rounding
    far = ids(index.search(QUERY, toward={factor: 1e4}, k=len(TEXTS)))
    assert spearmanr([own[name] for name in far], range(len(far))).statistic < -0.999


def test_a_hit_that_was_removed_since_it_was_found_is_left_out(spread_model, tmp_path):
    """As when another thread deletes it while candidates are put in order."""
    with Index.create(tmp_path / "index", spread_model, RECORDS) as index:
        found = index.search(QUERY, k=6)
        direction = make_direction(
            {"complexity": 1.0},
            directions=index.model.directions,
            sample=index.blocks.document_sample,
            relevance=found.weights.relevance,
        )
        add = partial(add_direction, found, direction=direction, index=index.blocks, k=6)
        before = ids(add())
        index.delete([before[2]])
        assert ids(add()) == [*before[:2], *before[3:]]


def test_candidates_stay_the_most_relevant_ones(index):
    best = set(ids(index.search(QUERY, weights="residual=1", k=4)))
    options = {"weights": "residual=1", "candidates": 4, "k": 3, "toward": "complexity=-1e4"}
    own = numbers(index, "complexity")
    assert ids(index.search(QUERY, **options)) == sorted(best, key=own.__getitem__)[:3]


def test_a_block_without_weight_shows_what_the_direction_adds_alone(index):
    hit = index.search(QUERY, weights="residual=1", toward="complexity=-1", k=1)[0]
    assert hit.by_block()["complexity"] != 0
    assert hit.by_block()["topic"] == 0


def test_where_all_records_are_alike_there_is_no_direction(model, tmp_path):
    weights = Weights.parse("residual=1", layout=LAYOUT)
    direction = {"complexity": model.direction("complexity")}
    with Index.create(tmp_path / "index", model) as index:
        for records in ([], [Record(id=str(n), text="the same") for n in range(4)]):
            index.add(records)
            made = make_direction(
                {"complexity": 1.0},
                directions=direction,
                sample=index.blocks.document_sample,
                relevance=weights.relevance,
            )
            assert np.isfinite(made.vector).all()
            assert made.vector.any() == (made.offsets != {})
            if not records:
                assert not made.vector.any()
            assert len(index.search(QUERY, toward="complexity=1")) == len(records)


@pytest.mark.parametrize(
    "toward",
    [
        "complexity",
        "complexity=",
        "=1",
        "",
        "complexity=x",
        "complexity=nan",
        "complexity=inf",
        "complexity=1,complexity=2",
        {"complexity": True},
        {"complexity": None},
        {"complexity": 10**400},
        5,
        ["complexity"],
    ],
)
def test_what_cannot_be_read_is_refused(toward):
    with pytest.raises(QueryError, match="toward"):
        read_toward(toward)


def test_what_can_be_read():
    assert read_toward("complexity=-1, specificity=.5") == {"complexity": -1.0, "specificity": 0.5}
    assert read_toward({"complexity": np.float32(2)}) == {"complexity": 2.0}


def test_wrong_questions_are_answered_with_words(index):
    for toward in ("style:quiet=1", "topic=1"):  # no such class, and no head at all
        with pytest.raises(QueryError, match="has directions for complexity, specificity, style"):
            index.search(QUERY, toward=toward)
    for k in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="k must be a whole number"):
            index.search(QUERY, toward="complexity=1", candidates=5, k=k)
    with pytest.raises(QueryError, match=r"toward complexity=1e\+308 is too much: give 1e\+06"):
        index.search(QUERY, toward="complexity=1e308")
    with pytest.raises(ConfigError, match="not with 'auto'"):
        index.search(QUERY, toward="complexity=1", preset="auto")


def test_hits_move_toward_a_class(index):
    loud = numbers(index, "style:loud")
    for name, sign in (("style:loud", 1), ("style:calm", -1), ("style", 1)):
        hits = index.search(QUERY, weights="topic=0.001", toward={name: 1000.0}, k=len(TEXTS))
        assert ids(hits) == sorted(loud, key=lambda one, sign=sign: -sign * loud[one])
        # Their mean is taken off, so that the scores are those of the search alone on average.
        plain = index.search(QUERY, weights="topic=0.001", k=len(TEXTS))
        means = [np.mean([hit.score for hit in one]) for one in (plain, hits)]
        assert means[1] == pytest.approx(means[0], abs=1e-3)


def test_the_command_line_asks_the_same(model, folder, tmp_path, capsys):
    model.save(tmp_path / "model")
    options = ["--checkpoint", str(tmp_path / "model"), "--index", str(folder), "--like", "court"]
    options += ["-k", "3", "--weights", "residual=1", "--candidates", "6", "--json"]
    toward = "complexity=-1,specificity=0.5"
    assert main(["search", *options, "--toward", toward]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    with Index.open(folder, model) as index:
        found = index.search(
            Like("court"), weights="residual=1", candidates=6, k=3, toward=read_toward(toward)
        )
    assert [hit["id"] for hit in hits] == ids(found)
    assert main(["search", *options, "--toward", toward, "--scope", "both"]) == 2
    assert "--toward goes with one scope" in capsys.readouterr().err
    assert main(["search", *options, "--toward", "topic=1"]) == 2
    assert "directions for complexity, specificity, style" in capsys.readouterr().err
