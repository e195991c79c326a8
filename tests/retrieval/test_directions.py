"""Toward a factor: nothing at zero, monotone in the factor, one inner product, explained."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from test_searcher import QUERY, TEXTS

from subspace.cli.main import main
from subspace.data.retrieval_sets import Document
from subspace.encoder import Encoder
from subspace.errors import CheckpointError, ConfigError, QueryError
from subspace.model import load_checkpoint
from subspace.model.linear_heads import BlockProbes, Head, load_probes
from subspace.retrieval import BlockIndex, Like, Searcher, UsageLog, Weights
from subspace.retrieval.directions import make_direction, read_toward, search_toward

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "minilm"
BLOCKS = ("topic=1", "residual=1,complexity=0.5", "riv=0.2,0.2,0.6")


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(CHECKPOINT)


@pytest.fixture(scope="module")
def probes(checkpoint) -> BlockProbes:
    return load_probes(checkpoint.folder, layout=checkpoint.projection.layout)


@pytest.fixture(scope="module")
def encoder(checkpoint) -> Encoder:
    return Encoder(checkpoint.encoder_spec())


@pytest.fixture
def searcher(checkpoint, encoder, tmp_path) -> Searcher:
    documents = [Document(id=name, text=text) for name, text in TEXTS.items()]
    usage = UsageLog.open(tmp_path / "usage.db", clock="steps")
    usage.add([("soup", 1.0)])
    usage.add([("court", 0.0)])
    index = BlockIndex.build(
        documents,
        encoder.encode(list(TEXTS.values())),
        projection=checkpoint.projection,
        usage=usage,
    )
    with Searcher(checkpoint, index, encoder=encoder) as searcher:
        yield searcher


def numbers(searcher, probes, factor) -> dict[str, float]:
    """The probe's number of every text."""
    found = searcher.index.engine.fetch(list(TEXTS))
    values = probes.predict(found.vectors)[factor]
    return {d.id: v for d, v in zip(found.documents, values, strict=True)}


@pytest.mark.parametrize("weights", BLOCKS)
@pytest.mark.parametrize("candidates", [None, 5])
def test_zero_changes_nothing(searcher, weights, candidates):
    options = {"weights": weights, "candidates": candidates, "k": 5}
    plain = searcher.search(QUERY, **options)
    zero = searcher.search(QUERY, toward="complexity=0", **options)
    assert zero.hits == plain.hits
    assert zero.weights == plain.weights
    assert searcher.search(QUERY, toward="complexity=3", **options).hits != plain.hits


@pytest.mark.parametrize("weights", BLOCKS)
@pytest.mark.parametrize("scope", ["block", "item"])
@pytest.mark.parametrize("standardize", [False, True])
def test_the_score_is_the_plain_one_plus_deviations_of_the_factor(
    searcher, probes, weights, scope, standardize
):
    if standardize and weights.startswith("riv"):
        weights = "topic=1,residual=0.2"
    toward = {"complexity": -0.7, "specificity": 0.4}
    options = {"weights": weights, "scope": scope, "standardize": standardize, "k": len(TEXTS)}
    plain = searcher.search(QUERY, **options)
    table, spread = plain.weights, searcher.index.steering.blocks
    unit = np.sqrt(
        sum((w * spread[b]) ** 2 for b, w in zip(table.layout, table.relevance, strict=True))
    )
    wanted = {hit.id: hit.score for hit in plain}
    for factor, count in toward.items():
        own = numbers(searcher, probes, factor)
        mean, deviation = np.mean(list(own.values())), np.std(list(own.values()))
        for name, value in own.items():
            wanted[name] += count * unit * (value - mean) / deviation
    found = searcher.search(QUERY, toward=toward, **options)
    assert [hit.id for hit in found] == sorted(wanted, key=lambda name: -wanted[name])
    for hit in found:
        assert hit.score == pytest.approx(wanted[hit.id], abs=2e-5)
        assert hit.score == pytest.approx(sum(hit.by_block().values()))


def test_folded_and_explicit_are_the_same(searcher, probes):
    vectors = searcher.embed([QUERY, Like("court")])
    options = {
        "weights": searcher.index.weights("residual=1,style=0.3"),
        "toward": {"complexity": -0.5, "specificity": 1.0},
        "probes": probes,
        "k": 6,
    }
    folded = search_toward(searcher.index, vectors, **options)
    explicit = search_toward(searcher.index, vectors, candidates=len(TEXTS), **options)
    for one, other in zip(folded, explicit, strict=True):
        assert [hit.id for hit in one] == [hit.id for hit in other]
        np.testing.assert_allclose(
            [hit.score for hit in one], [hit.score for hit in other], atol=2e-5
        )


@pytest.mark.parametrize("factor", ["complexity", "specificity"])
def test_the_further_toward_the_more_of_it(searcher, probes, factor):
    own = numbers(searcher, probes, factor)
    means = [
        np.mean([own[hit.id] for hit in searcher.search(QUERY, toward={factor: count}, k=4)])
        for count in (-100, -2, -0.5, 0, 0.5, 2, 100)
    ]
    assert means == sorted(means)
    far = [hit.id for hit in searcher.search(QUERY, toward={factor: 1e4}, k=len(TEXTS))]
    assert spearmanr([own[name] for name in far], range(len(far))).statistic < -0.999


def test_candidates_stay_the_most_relevant_ones(searcher, probes):
    best = {hit.id for hit in searcher.search(QUERY, weights="residual=1", k=4)}
    options = {"weights": "residual=1", "candidates": 4, "k": 3, "toward": "complexity=-1e4"}
    own = numbers(searcher, probes, "complexity")
    found = [hit.id for hit in searcher.search(QUERY, **options)]
    assert found == sorted(best, key=own.__getitem__)[:3]


def test_a_block_without_weight_shows_what_the_direction_adds_alone(searcher):
    hit = searcher.search(QUERY, weights="residual=1", toward="complexity=-1", k=1)[0]
    assert hit.by_block()["complexity"] != 0
    assert hit.by_block()["topic"] == 0


def test_where_all_documents_are_alike_there_is_no_direction(checkpoint, encoder, probes):
    x = np.repeat(encoder.encode(["the same"]), 4, axis=0)
    documents = [Document(id=str(n), text="the same") for n in range(4)]
    index = BlockIndex.build(documents, x, projection=checkpoint.projection)
    weights = Weights.parse("residual=1", layout=index.layout)
    made = make_direction({"complexity": 1.0}, probes=probes, index=index, weights=weights)
    assert np.isfinite(made.vector).all()
    empty = BlockIndex.build([], x[:0], projection=checkpoint.projection)
    made = make_direction({"complexity": 1.0}, probes=probes, index=empty, weights=weights)
    assert not made.vector.any()


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


def test_wrong_questions_are_answered_with_words(searcher, checkpoint, encoder):
    with pytest.raises(QueryError, match="has directions for complexity, specificity"):
        searcher.search(QUERY, toward="style=1")
    for k in (0, -1, 1.5):
        with pytest.raises(ConfigError, match="k must be a whole number"):
            searcher.search(QUERY, toward="complexity=1", candidates=5, k=k)
    with pytest.raises(ConfigError, match="not with 'auto'"):
        searcher.search(QUERY, toward="complexity=1", preset="auto")
    options = {"weights": "riv=1,1,1", "scope": "item", "standardize": True}
    with pytest.raises(ConfigError, match="standardize"):
        searcher.search(QUERY, toward="complexity=1", **options)


def test_directions_come_from_heads_of_numbers():
    layout = load_checkpoint(CHECKPOINT).projection.layout
    head = Head(
        weight=np.ones((2, 16), np.float32), bias=np.zeros(2, np.float32), classes=("a", "b")
    )
    with pytest.raises(QueryError, match="directions for nothing"):
        BlockProbes(layout=layout, heads={"style": head}).direction("style")
    wrong = Head(weight=head.weight, bias=head.bias, classes=None)
    with pytest.raises(CheckpointError, match="shapes"):
        BlockProbes(layout=layout, heads={"style": wrong})


def test_the_command_line_asks_the_same(searcher, encoder, tmp_path, capsys):
    index = str(tmp_path / "index")
    searcher.index.engine.save(index)
    options = ["--checkpoint", str(CHECKPOINT), "--index", index, "--like", "court", "-k", "3"]
    options += ["--weights", "residual=1", "--toward", "complexity=-1,specificity=0.5", "--json"]
    assert main(["search", *options, "--candidates", "6"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    found = searcher.search(
        Like("court"),
        weights="residual=1",
        toward={"complexity": -1, "specificity": 0.5},
        candidates=6,
        k=3,
    )
    assert [hit["id"] for hit in hits] == [hit.id for hit in found]
    assert main(["search", *options, "--scope", "both"]) == 2
    assert "--toward goes with one scope" in capsys.readouterr().err
    assert main(["search", *options, "--toward", "topic=1"]) == 2
    assert "directions for complexity, specificity" in capsys.readouterr().err
