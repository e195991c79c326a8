"""Separation in three worlds: planted, constant and leaky; and with confounds."""

import re
from dataclasses import replace

import numpy as np
import pytest
from worlds import COUNT, EVERYTHING, PLACES, PLANTED, RAW, cut, embedded, make_labels, plant

from subspace.data.labels import Column, Labels
from subspace.evaluation.separation import (
    EmbeddedSource,
    Matrix,
    Reading,
    make_matrix,
    read_factors,
)
from subspace.model.projection import Projection

PROBE_NAMES = ["linear", "neighbours", "network"]
pytestmark = pytest.mark.usefixtures("short_networks")
every_probe = pytest.mark.parametrize("probe", PROBE_NAMES)


def read(projection: Projection, *sources: EmbeddedSource, **changes):
    named = {source.labels.source: source for source in sources}
    settings = {"raw": RAW, "seeds": 2, "thorough": ["model"], "controls": ["model"], **changes}
    return read_factors(named, models={"model": dict.fromkeys(named, projection)}, **settings)


def matrix(readings, *, probe: str = "linear", controlled: bool = False) -> Matrix:
    return make_matrix(readings, model="model", probe=probe, controlled=controlled)


@pytest.fixture(scope="module")
def planted(short_networks):
    return read(cut(PLANTED), embedded(make_labels()))[0]


# Planted: a block of each factor's own dimensions.


@every_probe
@pytest.mark.parametrize("controlled", [False, True])
def test_planted_blocks_hold_their_own_factor_and_nothing_else(planted, probe, controlled):
    found = matrix(planted, probe=probe, controlled=controlled)
    assert found.blocks == found.factors == ("topic", "style", "complexity")
    assert (np.diag(found.values) > 0.85).all()
    assert (found.values[~np.eye(3, dtype=bool)] < 0.25).all()
    assert found.selectivity() > 0.75
    low, high = found.selectivity_interval()
    assert low <= found.selectivity() <= high
    assert 0 < high - low < 0.4


def test_retention_is_the_diagonal_and_leakage_the_mean_of_the_rest(planted):
    found = matrix(planted)
    for row, block in enumerate(found.blocks):
        assert found.retention()[block] == found.values[row, row]
        rest = np.delete(found.values[row], row)
        assert found.leakage()[block] == pytest.approx(rest.mean(), rel=1e-12)
    both = [found.retention()[b] - found.leakage()[b] for b in found.blocks]
    assert found.selectivity() == pytest.approx(np.mean(both), rel=1e-12)


def test_a_reading_is_relative_to_the_same_probe_on_the_raw_embedding(planted):
    raw = {(r.factor, r.probe, r.controlled): r for r in planted if r.model == "raw"}
    assert {r.relative for r in raw.values()} == {1.0}
    for reading in planted:
        base = raw[reading.factor, reading.probe, reading.controlled]
        above = max(reading.score - reading.chance, 0)
        assert reading.relative == pytest.approx(above / (base.score - base.chance), rel=1e-9)
        assert len(reading.scores) == 2


def test_control_labels_are_not_read_from_what_says_nothing_of_words(planted):
    controls = {r.probe: r for r in planted if r.control is not None and r.model == "model"}
    assert set(controls) == set(PROBE_NAMES)
    for reading in controls.values():
        assert abs(reading.control - reading.chance) < 0.1 < reading.score - reading.chance


def test_memorised_words_show_in_the_control_labels():
    """Every first word has a place of its own in the embedding: labels by word can be learned."""
    labels = make_labels()
    source = embedded(labels)
    words = np.array([int(record.text.split()[0][1:]) % 16 for record in source.records])
    records = [
        replace(record, text=f"w{word} word")
        for record, word in zip(source.records, words, strict=True)
    ]
    x = source.x + 4 * np.eye(16)[words].astype(np.float32)
    readings, _ = read(cut(EVERYTHING), EmbeddedSource(records, labels, x))
    control = next(r for r in readings if r.model == "raw" and r.factor == "topic")
    assert control.control > control.chance + 0.2


def test_sources_count_alike_in_the_mean():
    def reading(source: str, factor: str, relative: float) -> Reading:
        return Reading(
            source=source,
            factor=factor,
            model="model",
            block="topic",
            probe="linear",
            controlled=False,
            scores=(0.9,),
            chance=0.5,
            control=None,
            relative=relative,
            by_seed=np.array([relative]),
            replicates=np.array([relative, relative + 0.1]),
        )

    found = matrix(
        [
            reading("large", "topic", 1.0),
            reading("small", "topic", 0.2),
            reading("small", "style", 0.1),
        ]
    )
    np.testing.assert_allclose(found.values, [[0.6, 0.1]])
    np.testing.assert_allclose(found.replicates[:, 0], [[0.6, 0.1], [0.7, 0.2]])
    assert found.selectivity() == pytest.approx(0.5)


# Constant: nothing to read.


@pytest.fixture(scope="module")
def constant(short_networks):
    labels = make_labels()
    x = plant(labels)
    x[:, 15] = 0
    return read(cut({"topic": slice(0, 4), "style": slice(15, 16)}), embedded(labels, x))[0]


@every_probe
def test_a_constant_block_retains_and_leaks_nothing(constant, probe):
    found = matrix(constant, probe=probe)
    np.testing.assert_allclose(found.values[1], 0, atol=0.1)
    assert found.values[0, 0] > 0.85


def test_a_factor_that_the_raw_embedding_does_not_hold_is_left_out_with_the_reason():
    labels = make_labels()
    x = plant(labels)
    x[:, PLACES["style"]] = 0
    readings, left_out = read(cut(PLANTED), embedded(labels, x))
    assert matrix(readings).factors == ("topic", "complexity")
    assert len(left_out) == 1
    said = r"test/style: the raw embedding itself is at chance: it scores 0\.\d\d \(95 % interval"
    assert re.match(said, left_out[0])


def test_a_score_below_chance_lies_in_its_own_interval():
    """The interval is of the score itself; only ratios count less than chance as chance."""
    labels = make_labels()
    x = plant(labels)
    x[:, PLACES["style"]] = 0
    below = 0
    for seed in range(6):
        noise = np.random.default_rng(seed).normal(size=x.shape).astype(np.float32)
        source = embedded(labels, x + 0.3 * noise)
        _, (reason, *_) = read(cut(PLANTED), source, seeds=1, thorough=[], controls=[])
        found = re.search(r"scores (.*) \(95 % interval (.*) to (.*)\), chance is (.*),", reason)
        assert found is not None
        score, low, high, chance = map(float, found.groups())
        assert low <= score <= high
        below += score < chance
    assert below  # some are below chance, or this would show nothing


def test_what_cannot_be_probed_is_left_out_with_the_reason():
    labels = make_labels(count=60)
    readings, left_out = read(cut(PLANTED), embedded(labels))
    assert readings == []
    assert all("a probe needs 30" in reason for reason in left_out)
    empty = matrix(readings)
    assert np.isnan(empty.selectivity())
    assert empty.to_json()["selectivity"] is None


# Leaky: every block holds everything.


@pytest.fixture(scope="module")
def leaky(short_networks):
    return read(cut(EVERYTHING), embedded(make_labels()))[0]


@every_probe
def test_blocks_that_hold_both_factors_leak_as_much_as_they_retain(leaky, probe):
    """The planted blocks do not; see above."""
    found = matrix(leaky, probe=probe)
    np.testing.assert_allclose(found.values, 1, atol=0.05)
    assert found.selectivity() == pytest.approx(0, abs=0.03)


def test_raw_says_which_dimensions_are_the_baseline():
    readings, left_out = read(
        cut({"topic": slice(0, 4)}), embedded(make_labels()), raw=PLACES["style"]
    )
    assert "style" in {reading.factor for reading in readings}
    assert any(reason.startswith("test/topic: the raw") for reason in left_out)
    assert "all layers" in {reading.model for reading in readings}


# Confounds.


def test_a_block_that_holds_length_alone_leaks_until_length_is_partialled_out():
    labels = make_labels()
    values = labels.columns["complexity"].values
    lengths = np.round(np.exp(2 + 3 * values)).astype(int)
    x = plant(labels)
    x[:, 15] = np.log(lengths)
    x[:, 14] = 1  # cosine needs something to compare the length with
    source = embedded(labels, x, lengths=lengths)
    readings, _ = read(cut({"topic": slice(0, 4), "style": slice(14, 16)}), source)
    plain, held = matrix(readings), matrix(readings, controlled=True)
    column = plain.factors.index("complexity")
    assert plain.values[1, column] > 0.9
    # What is left of complexity once length is known is noise, in the raw embedding too.
    assert (
        "complexity" not in held.factors or held.values[1, held.factors.index("complexity")] < 0.3
    )


def test_a_factor_that_only_the_other_gives_away_is_not_read_within_its_levels():
    """Style follows topic; a block of topic reads style by it, and cannot within one topic."""
    labels = make_labels(count=2 * COUNT)
    rng = np.random.default_rng(3)
    topic = labels.columns["topic"].codes % 2
    style = np.where(rng.random(len(topic)) < 0.8, topic, 1 - topic)
    columns = {
        "topic": Column(codes=topic, class_count=2),
        "style": Column(codes=style, class_count=2),
    }
    tied = Labels("test", columns, groups=labels.groups, splits=labels.splits)
    x = 0.3 * rng.normal(size=(len(topic), 16)).astype(np.float32)
    x[:, :2] += np.eye(2)[topic]
    x[:, 4:6] += np.eye(2)[style]
    readings, _ = read(cut({"topic": slice(0, 4), "style": slice(4, 8)}), embedded(tied, x))
    plain, held = matrix(readings), matrix(readings, controlled=True)
    assert plain.values[0, 1] > 0.5
    assert held.values[0, 1] < 0.2
    assert held.values[1, 1] > 0.85
