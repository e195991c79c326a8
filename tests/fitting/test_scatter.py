"""Evidence from measures and rewrites equals its definition, source by source."""

from dataclasses import replace

import numpy as np
import pytest

from subspace.data.labels import Column, Labels
from subspace.fitting import moments as module
from subspace.fitting.moments import (
    SourceStatistics,
    collect_measures,
    collect_rewrites,
    collect_statistics,
)
from subspace.fitting.scatter import gather_evidence

DIM, COUNT = 8, 300


def labelled(x: np.ndarray, codes: np.ndarray) -> SourceStatistics:
    labels = Labels(
        source="test",
        columns={"topic": Column(codes=codes, class_count=3)},
        groups=np.full(len(x), -1),
        splits=np.zeros(len(x), dtype=np.int64),
    )
    return collect_statistics(x, rows=np.arange(len(x)), labels=labels)


@pytest.fixture
def world() -> tuple[np.ndarray, dict[str, np.ndarray], SourceStatistics]:
    """Style moves dimension 0, complexity dimension 1; its measure is mixed with that of style."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, DIM)).astype(np.float32) + 3
    style = x[:, :1] + 0.1 * rng.normal(size=(COUNT, 1))
    complexity = x[:, 1:2] + style
    measures = {
        "style": style.astype(np.float32),
        "complexity": complexity.astype(np.float32),
    }
    return x, measures, labelled(x, rng.integers(0, 3, COUNT))


@pytest.mark.parametrize("chunk", [7, 10_000])
def test_measures_are_covariances(world, chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    x, measures, _ = world
    part = collect_measures(x, rows=np.arange(COUNT), measures=measures)
    joined = np.concatenate([*measures.values()], axis=1)
    both = np.cov(np.concatenate([x, joined], axis=1).T, bias=True)
    np.testing.assert_allclose(part.cross, both[:DIM, DIM:], atol=1e-5)
    np.testing.assert_allclose(part.covariance, both[DIM:, DIM:], atol=1e-5)
    assert part.columns == {"style": slice(0, 1), "complexity": slice(1, 2)}


@pytest.mark.parametrize("chunk", [2, 10_000])
def test_rewrites_are_mean_changes_by_rule(chunk, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", chunk)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20, DIM)).astype(np.float32)
    originals, rewritten = np.arange(5).repeat(2), np.arange(10, 20)
    rules = ["casual", "formal"] * 5
    part = collect_rewrites(x, originals=originals, rewritten=rewritten, rules=rules)
    change = x[rewritten].astype(np.float64) - x[originals]
    for rule, first in (("casual", 0), ("formal", 1)):
        np.testing.assert_allclose(part.means[rule], change[first::2].mean(axis=0))
    np.testing.assert_allclose(part.second_moment, change.T @ change / 10)


def test_own_measures_are_what_the_other_factors_do_not_explain(world):
    x, measures, source = world
    part = collect_measures(x, rows=np.arange(COUNT), measures=measures)
    evidence = gather_evidence({"one": replace(source, measures=part)})["complexity"]
    assert evidence.measures is not None
    assert evidence.own_measures is not None
    # The plain measure shows both directions, what is left only its own.
    assert evidence.measures[0, 0] > 0.3
    assert evidence.own_measures[0, 0] < 0.05
    assert evidence.own_measures[1, 1] > 0.8


def test_every_source_counts_the_same_and_every_scatter_has_trace_one(world):
    x, measures, source = world
    part = collect_measures(x, rows=np.arange(COUNT), measures=measures)
    rewrites = {
        "style": collect_rewrites(
            x, originals=np.arange(10), rewritten=np.arange(10, 20), rules=["casual"] * 10
        )
    }
    full = replace(source, measures=part, rewrites=rewrites)
    one = gather_evidence({"one": full})
    twice = gather_evidence({"one": full, "two": replace(full, count=10 * full.count)})
    for factor, evidence in one.items():
        for kind, scatter in vars(evidence).items():
            if scatter is not None:
                assert np.trace(scatter) == pytest.approx(1)
                np.testing.assert_allclose(scatter, vars(twice[factor])[kind], atol=1e-9)


def test_without_weak_supervision_there_are_labels_alone(world):
    evidence = gather_evidence({"one": world[2]})
    assert list(evidence) == ["topic"]
    assert evidence["topic"].rewrites is None
    assert evidence["topic"].measures is None
