"""The closed form: principal directions without powers, the planted factor with them."""

from dataclasses import replace

import numpy as np
import pytest
from planted import DIM, Texts, World

from subspace.blocks import unit
from subspace.errors import ConfigError
from subspace.fitting.block_spec import DEFAULT_BLOCKS, BlockSpec, default_blocks, read_blocks
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.moments import SourceMoments
from subspace.model.projection import Projection

HALF = DIM // 2
PLAIN = {"signal_power": 0.0, "noise_power": 0.0}


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def train(world) -> dict[str, Texts]:
    return {"one": world.draw("one"), "two": world.draw("two", grouped=True)}


@pytest.fixture(scope="module")
def moments(train) -> dict[str, SourceMoments]:
    return {source: texts.moments() for source, texts in train.items()}


def solve(moments, *, layers=(0,), **blocks) -> Projection:
    specs = {name: BlockSpec(**settings) for name, settings in blocks.items()}
    return solve_closed_form(moments, blocks=specs, layers=layers)


def rows(projection: Projection, block: str) -> np.ndarray:
    return projection.weight[projection.layout.slice(block)].astype(np.float64)


def root(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a symmetric matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 0) ** exponent) @ vectors.T


def mean_unit(matrices) -> np.ndarray:
    mean = np.mean([matrix / np.trace(matrix) for matrix in matrices], axis=0)
    return mean / np.trace(mean)


def test_without_powers_a_block_is_the_leading_principal_directions(moments):
    w = rows(solve(moments, topic={"width": 6, **PLAIN}), "topic")
    np.testing.assert_allclose(w @ w.T, np.eye(6), atol=1e-6)
    total = mean_unit([source.covariance for source in moments.values()])
    vectors = np.linalg.eigh(total)[1][:, ::-1][:, :6]
    np.testing.assert_allclose(np.abs(np.diag(w @ vectors)), 1, atol=1e-5)


@pytest.mark.parametrize(("p", "q"), [(0.5, 0.5), (1.0, 0.5), (0.0, 1.0), (0.5, 0.0)])
def test_a_block_is_what_is_left_of_the_filtered_embedding_in_its_leading_directions(
    p, q, moments, train
):
    """As wide as the embedding it keeps every cosine of M^(q/2) T^(-p/2) x; the formula, anew."""
    settings = {"signal_power": q, "noise_power": p, "shrinkage": 0.3}
    total = mean_unit([source.covariance for source in moments.values()])
    signal = []
    for source in moments.values():
        factor = source.factors["style"]
        parts = [factor.between, factor.within_groups]
        signal.append(mean_unit([part for part in parts if part is not None]))
    shrunk = 0.7 * total + 0.3 * np.eye(DIM) / DIM
    change = root(shrunk, -p / 2)
    if q:
        change = root(mean_unit(signal), q / 2) @ change
    x = train["one"].x[:50] - solve(moments, style={"width": DIM, **settings}).mean
    z = x @ change.T
    wanted = unit(z) @ unit(z).T
    # M has no direction but those of style, so that a few rows hold all that the filter leaves.
    full = solve(moments, style={"width": DIM, **settings})(train["one"].x[:50])
    np.testing.assert_allclose(full @ full.T, wanted, atol=2e-3)
    narrow = rows(solve(moments, style={"width": 5, **settings}), "style")
    after = change @ total @ change.T
    kept = np.trace(narrow @ total @ narrow.T)
    assert kept == pytest.approx(np.linalg.eigvalsh(after)[-5:].sum(), rel=1e-4)


def share_of_style(w: np.ndarray, moments, world) -> float:
    """Share of a block's spread that lies between styles."""
    total = mean_unit([source.covariance for source in moments.values()])
    directions = world.style_directions
    within = w @ directions.T
    spread = directions @ total @ directions.T
    return float(np.trace(within @ spread @ within.T) / np.trace(w @ total @ w.T))


def test_signal_power_brings_out_a_planted_factor_that_was_there_before(moments, world):
    shares = [
        share_of_style(
            rows(solve(moments, style={"width": 8, "signal_power": q}), "style"), moments, world
        )
        for q in (0.0, 0.25, 0.5, 1.0)
    ]
    before = share_of_style(np.eye(DIM), moments, world)
    assert before > 0.01
    assert shares == sorted(shares)
    assert shares[2] > 3 * before
    assert shares[3] > 0.6


def test_noise_power_holds_down_where_texts_differ_anyway(moments, world):
    """Topic has the most variance of all, and less of the block the more it is held down."""
    topics = np.linalg.svd((world.topics - world.topics.mean(axis=0)) @ world.rotation)[2][:3]
    total = mean_unit([source.covariance for source in moments.values()])

    def share(p: float) -> float:
        w = rows(solve(moments, style={"width": DIM, "signal_power": 0, "noise_power": p}), "style")
        inside = w @ topics.T
        spread = topics @ total @ topics.T
        return float(np.trace(inside @ spread @ inside.T) / np.trace(w @ total @ w.T))

    shares = [share(p) for p in (0.0, 0.5, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.5 > 0.3 > shares[2]


def test_a_block_reads_its_own_layers_alone(moments):
    """It read both before, and the other block still does."""
    blocks = {"topic": {"width": 4, "layers": (3,), **PLAIN}, "style": {"width": 4}}
    projection = solve(moments, layers=(1, 3), **blocks)
    assert (rows(projection, "topic")[:, :HALF] == 0).all()
    assert np.abs(rows(projection, "topic")[:, HALF:]).max() > 0.1
    for half in (slice(0, HALF), slice(HALF, DIM)):
        assert np.abs(rows(projection, "style")[:, half]).max() > 0.01
    # -1 is the last layer, and layers may be named in any order.
    last = solve(moments, layers=(1, 3), topic={"width": 4, "layers": (-1,), **PLAIN})
    np.testing.assert_array_equal(rows(last, "topic"), rows(projection, "topic"))
    both = solve(moments, layers=(1, 3), style={"width": 4, "layers": (3, 1)})
    np.testing.assert_array_equal(rows(both, "style"), rows(projection, "style"))


def test_a_source_does_not_place_its_texts(train, moments):
    """Shifting one source moves mu and not W: what tells sources apart counts nowhere."""
    moved = replace(train["one"], x=train["one"].x + np.float32(64))
    first = solve(moments, style={"width": 4})
    other = solve({"one": moved.moments(), "two": moments["two"]}, style={"width": 4})
    np.testing.assert_allclose(np.abs(other.weight), np.abs(first.weight), atol=2e-3)
    np.testing.assert_allclose(other.mean - first.mean, 32, rtol=1e-5)


def test_mu_is_the_mean_of_all_training_texts(train, moments):
    everything = np.concatenate([texts.x for texts in train.values()]).astype(np.float64)
    mean = solve(moments, style={"width": 4}).mean
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-5)


def test_solving_twice_gives_the_same_bits(moments):
    first, again = (solve(moments, style={"width": 4}, topic={"width": 6}) for _ in range(2))
    np.testing.assert_array_equal(first.weight, again.weight)
    np.testing.assert_array_equal(first.mean, again.mean)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"style": {"width": 25}}, r"'style' is 25 wide, but reads 24 dim.*narrower.*more layers"),
        ({"style": {"width": 13, "layers": (1,)}}, r"'style' is 13 wide, but reads 12"),
        ({"style": {"width": 4, "layers": (0, 1)}}, r"'style' reads layer 0, but .* layers 1, 3"),
        ({"tone": {"width": 4}}, r"no source is labelled with 'tone'.*factors style, topic"),
    ],
    ids=["width", "width of a layer", "layer", "factor"],
)
def test_blocks_that_cannot_be_solved_are_refused_by_name(blocks, message, moments):
    with pytest.raises(ConfigError, match=message):
        solve(moments, layers=(1, 3), **blocks)


def test_a_block_without_signal_power_needs_no_labels(moments):
    w = rows(solve(moments, tone={"width": 4, "signal_power": 0.0}), "tone")
    assert np.linalg.matrix_rank(w) == 4


def test_a_factor_of_a_single_class_cannot_be_learned_and_is_named(train, moments):
    same = {
        name: replace(texts, codes={**texts.codes, "style": np.zeros_like(texts.codes["style"])})
        for name, texts in train.items()
    }
    single = {name: texts.moments() for name, texts in same.items()}
    with pytest.raises(ConfigError, match=r"'style' has a single class in every source .*one, two"):
        solve(single, style={"width": 4})
    solve({**single, "one": moments["one"]}, style={"width": 4})  # one source is enough


def test_texts_that_are_all_alike_cannot_be_fitted():
    codes = {"topic": np.arange(40) % 2, "style": np.arange(40) % 3}
    texts = Texts(x=np.ones((40, DIM), dtype=np.float32), codes=codes)
    with pytest.raises(ConfigError, match="all have the same embedding"):
        solve({"one": texts.moments()}, topic={"width": 2})


# Specs.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("shrinkage", value) for value in (0.0, 1.1, float("nan"))),
        *(("signal_power", value) for value in (-0.1, 2.1, float("nan"))),
        *(("noise_power", value) for value in (-0.1, float("inf"))),
        *(("layers", value) for value in ((), (1, 1))),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_and_block(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} must"):
        BlockSpec(**{name: value})
    with pytest.raises(ConfigError, match=f"^block 'style': {name} must"):
        read_blocks({"style": {name: value}})


def test_blocks_are_read_from_widths_settings_and_specs():
    spec = BlockSpec(width=3, noise_power=1.0)
    found = read_blocks({"topic": 8, "style": {"width": 4, "layers": [0, 2]}, "mood": spec})
    assert found["topic"] == replace(DEFAULT_BLOCKS["topic"], width=8)
    assert found["style"] == BlockSpec(width=4, layers=(0, 2))
    assert found["mood"] is spec
    assert read_blocks({name: one.to_json() for name, one in found.items()}) == found
    with pytest.raises(ConfigError, match=r"block 'style'.*widht"):
        read_blocks({"style": {"widht": 4}})


def test_default_blocks_are_topic_and_what_is_labelled_and_no_wider_than_what_they_read():
    wide = default_blocks(["mood", "style"], dim=2000, layers=(0, 1))
    assert list(wide) == ["topic", "style", "mood"]
    assert (wide["topic"], wide["mood"]) == (DEFAULT_BLOCKS["topic"], BlockSpec())
    narrow = default_blocks(["style"], dim=200, layers=(0, 1))
    assert {name: spec.width for name, spec in narrow.items()} == {"topic": 100, "style": 200}
    assert list(default_blocks([], dim=2000, layers=(0, 1))) == ["topic"]
