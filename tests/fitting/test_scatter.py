"""Scatter matrices: every source counts the same, whatever its size and its scale."""

from dataclasses import replace

import numpy as np
import pytest
from planted import DIM, Texts, World

from subspace.fitting.moments import SourceMoments
from subspace.fitting.scatter import factor_scatter, total_scatter, unit_trace

ALL = np.arange(DIM)


@pytest.fixture(scope="module")
def texts() -> dict[str, Texts]:
    world = World()
    return {"one": world.draw("one"), "two": world.draw("two", 600, grouped=True)}


@pytest.fixture(scope="module")
def moments(texts) -> dict[str, SourceMoments]:
    return {name: part.moments() for name, part in texts.items()}


def test_total_scatter_is_the_mean_covariance_at_trace_one(texts, moments):
    wanted = np.mean([unit_trace(np.cov(part.x.T, bias=True)) for part in texts.values()], axis=0)
    np.testing.assert_allclose(total_scatter(moments, dims=ALL), unit_trace(wanted), atol=1e-6)


def test_factor_scatter_is_the_mean_of_class_means_and_differences_within_groups(texts, moments):
    parts = []
    for name, part in texts.items():
        x, codes = part.x.astype(np.float64), part.codes["style"]
        means = np.stack([x[codes == code].mean(axis=0) for code in range(3)]) - x.mean(axis=0)
        shares = np.bincount(codes) / len(codes)
        between = unit_trace((means.T * shares) @ means)
        if name == "two":
            within = np.zeros((DIM, DIM))
            for group in range(200):
                members = x[part.groups == group] - x[part.groups == group].mean(axis=0)
                within += members.T @ members
            between = (between + unit_trace(within)) / 2
        parts.append(between)
    found = factor_scatter(moments, factor="style", dims=ALL)
    np.testing.assert_allclose(found, unit_trace(np.mean(parts, axis=0)), atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: total_scatter(m, dims=ALL),
        lambda m: factor_scatter(m, factor="style", dims=ALL),
    ],
    ids=["total", "factor"],
)
def test_sources_count_the_same_whatever_their_size_or_scale(make, texts, moments):
    larger = Texts(
        x=np.concatenate([texts["one"].x] * 5),
        codes={name: np.tile(codes, 5) for name, codes in texts["one"].codes.items()},
    )
    scaled = Texts(x=10 * texts["two"].x, codes=texts["two"].codes, groups=texts["two"].groups)
    other = {"one": larger.moments(), "two": scaled.moments()}
    assert np.trace(make(moments)) == pytest.approx(1)
    np.testing.assert_allclose(make(other), make(moments), atol=1e-6)
    # Counter-check: without one of the two it is another matrix.
    assert np.abs(make({"one": moments["one"]}) - make(moments)).max() > 1e-3


def test_labels_that_weigh_half_count_half(moments):
    factors = {"style": replace(moments["two"].factors["style"], weight=0.5)}
    light = {"one": moments["one"], "two": replace(moments["two"], factors=factors)}
    one, two = (
        factor_scatter({name: part}, factor="style", dims=ALL) for name, part in moments.items()
    )
    found = factor_scatter(light, factor="style", dims=ALL)
    np.testing.assert_allclose(found, (one + two / 2) / 1.5, atol=1e-9)


def test_only_the_dimensions_that_are_read_count(moments):
    dims = np.array([1, 4, 7])
    found = factor_scatter(moments, factor="style", dims=dims)
    assert found.shape == (3, 3)
    assert np.trace(found) == pytest.approx(1)
    scaled = {
        name: replace(part, covariance=part.covariance * (1 + 99 * ~np.isin(ALL, dims)))
        for name, part in moments.items()
    }
    assert np.trace(scaled["one"].covariance) > 10 * np.trace(moments["one"].covariance)
    np.testing.assert_allclose(
        total_scatter(scaled, dims=dims), total_scatter(moments, dims=dims), rtol=1e-5
    )


def test_a_factor_that_nothing_labels_has_no_scatter_and_zero_stays_zero(moments):
    assert factor_scatter(moments, factor="mood", dims=ALL) is None
    assert not unit_trace(np.zeros((2, 2))).any()
