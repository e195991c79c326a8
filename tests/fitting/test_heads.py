"""Heads read from a block what was planted there: directions of numbers, and classes."""

from collections.abc import Mapping

import numpy as np
import pytest
from scipy.stats import spearmanr

from subspace.blocks import BlockLayout
from subspace.data.labels import label_source
from subspace.data.records import Record
from subspace.fitting.heads import fit_heads
from subspace.fitting.stored_sources import StoredSource
from subspace.model.projection import Projection

COUNT, DIM = 600, 8
LAYOUT = BlockLayout.from_widths({"topic": 4, "complexity": 4})
# Blocks are the halves of the embedding as they are.
PROJECTION = Projection(
    weight=np.eye(DIM, dtype=np.float32), mean=np.zeros(DIM, np.float32), layout=LAYOUT
)
SPLITS = ("train", "train", "train", "train", "validation", "test")


def make_source(
    factors: Mapping[str, np.ndarray],
    *,
    lengths: np.ndarray | None = None,
    origins: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
) -> StoredSource:
    """Texts with these labels, in the order of the rows; ten words each, or as many as said."""
    count = len(next(iter(factors.values())))
    words = np.full(count, 10) if lengths is None else lengths
    records = [
        Record(
            id=str(n),
            text=" ".join(["word"] * int(words[n])),
            source="made",
            factors={
                name: str(labels[n]) if labels.dtype.kind == "U" else float(labels[n])
                for name, labels in factors.items()
            },
            split=SPLITS[n % 6],
            origins=dict(origins or {}) if n % 2 else {},
        )
        for n in range(count)
    ]
    labels = label_source("made", records, origin_weights=weights)
    return StoredSource(records=records, labels=labels, rows=np.arange(count), sha256="")


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings; topics that move the first half, and numbers that move dimension 4."""
    rng = np.random.default_rng(0)
    topics, numbers = rng.integers(0, 3, COUNT), rng.normal(size=COUNT)
    x = 0.5 * rng.normal(size=(COUNT, DIM))
    x[:, :3] += 2 * np.eye(3)[topics]
    x[:, 4] += numbers
    x[:, 5] += 2  # a constant: scaling to unit length then keeps the number
    return x.astype(np.float32), np.array([f"topic {t}" for t in topics]), numbers


def read(heads, factor: str, x: np.ndarray) -> np.ndarray:
    return np.array(heads[factor](PROJECTION(x)[:, LAYOUT.slice(factor)]))


def order(heads, x: np.ndarray, truth: np.ndarray) -> float:
    """Rank correlation on texts that the heads have not seen."""
    unseen = np.arange(COUNT) % 6 == 5
    return float(spearmanr(read(heads, "complexity", x)[unseen], truth[unseen]).statistic)


def test_a_direction_orders_texts_by_a_planted_number_and_only_in_its_own_block(world):
    x, _, numbers = world
    heads = fit_heads(PROJECTION, {"one": make_source({"complexity": numbers})}, vectors=x)
    assert list(heads) == ["complexity"]
    assert heads["complexity"].classes is None
    assert heads["complexity"].weight.shape == (1, 4)
    assert order(heads, x, numbers) > 0.7
    # Where the number is not in the block there is nothing to read.
    swapped = x[:, [4, 5, 6, 7, 0, 1, 2, 3]]
    none = fit_heads(PROJECTION, {"one": make_source({"complexity": numbers})}, vectors=swapped)
    assert abs(order(none, swapped, numbers)) < 0.25


def test_a_label_that_is_the_length_of_the_text_gives_no_direction(world):
    x, _, _ = world
    lengths = np.random.default_rng(1).integers(2, 80, COUNT)
    told = x.copy()
    told[:, 4] = np.log(lengths)
    pure = make_source({"complexity": np.log(lengths)}, lengths=lengths)
    assert fit_heads(PROJECTION, {"one": pure}, vectors=told) == {}
    # Counter-check: the same labels of texts that are all as long are learned.
    heads = fit_heads(
        PROJECTION, {"one": make_source({"complexity": np.log(lengths)})}, vectors=told
    )
    assert order(heads, told, np.log(lengths)) > 0.5


def test_what_length_explains_of_a_label_does_not_bend_its_direction(world):
    x, _, numbers = world
    lengths = np.random.default_rng(1).integers(2, 80, COUNT)
    told = x.copy()
    told[:, 6] = np.log(lengths) - np.log(lengths).mean()
    mixed = numbers + 2 * np.log(lengths)
    bent = fit_heads(PROJECTION, {"one": make_source({"complexity": mixed})}, vectors=told)
    held = fit_heads(
        PROJECTION, {"one": make_source({"complexity": mixed}, lengths=lengths)}, vectors=told
    )

    def leaning(heads) -> float:
        weight = heads["complexity"].weight[0]
        return float(abs(weight[2]) / abs(weight[0]))

    assert leaning(bent) > 1
    assert leaning(held) < 0.2


def test_sources_of_numbers_count_the_same_whatever_their_size_and_scale(world):
    """Two sources that contradict each other cancel; the larger one does not outvote the other."""
    x, _, numbers = world
    few = slice(0, 120)
    one = make_source({"complexity": numbers})
    against = make_source({"complexity": -1000 * numbers[few]})
    heads = fit_heads(PROJECTION, {"one": one, "two": against}, vectors=x)
    alone = fit_heads(PROJECTION, {"one": one}, vectors=x)
    sizes = [np.abs(found["complexity"].weight).max() for found in (heads, alone)]
    assert sizes[0] < 0.2 * sizes[1]


def test_classes_are_told_apart(world):
    x, topics, _ = world
    heads = fit_heads(PROJECTION, {"one": make_source({"topic": topics})}, vectors=x)
    assert heads["topic"].classes == ("topic 0", "topic 1", "topic 2")
    unseen = np.arange(COUNT) % 6 == 5
    assert (read(heads, "topic", x)[unseen] == topics[unseen]).mean() > 0.9


def test_two_classes_have_an_output_each(world):
    x, topics, _ = world
    two = np.where(topics == "topic 0", "yes", "no")
    heads = fit_heads(PROJECTION, {"one": make_source({"topic": two})}, vectors=x)
    assert heads["topic"].classes == ("no", "yes")
    assert (read(heads, "topic", x) == two).mean() > 0.9


def test_classes_that_no_validation_text_has_are_not_learned(world):
    """As where the ids of documents serve as classes."""
    x, topics, _ = world
    train = np.isin(np.arange(COUNT) % 6, (0, 1, 2, 3))
    odd = train & (np.arange(COUNT) % 2 == 1)
    named = np.where(odd, [f"{topic} too" for topic in topics], topics)
    heads = fit_heads(PROJECTION, {"one": make_source({"topic": named})}, vectors=x)
    assert set(heads["topic"].classes) == {"topic 0", "topic 1", "topic 2"}


def test_a_factor_of_one_class_or_without_a_block_has_no_head(world):
    x, topics, numbers = world
    one = make_source({"topic": np.full(COUNT, "one"), "mood": topics, "complexity": numbers})
    assert list(fit_heads(PROJECTION, {"one": one}, vectors=x)) == ["complexity"]


def test_categories_can_be_left_out(world):
    x, topics, numbers = world
    source = {"one": make_source({"topic": topics, "complexity": numbers})}
    assert set(fit_heads(PROJECTION, source, vectors=x)) == {"topic", "complexity"}
    assert set(fit_heads(PROJECTION, source, vectors=x, numbers_only=True)) == {"complexity"}


def test_labels_weigh_in_the_fit(world):
    """Every second label is wrong, and its origin says so."""
    x, _, numbers = world
    wrong = np.where(np.arange(COUNT) % 2, -numbers, numbers)

    def of(weight: float) -> float:
        source = make_source(
            {"complexity": wrong},
            origins={"complexity": "features"},
            weights={"features": weight},
        )
        return order(fit_heads(PROJECTION, {"one": source}, vectors=x), x, numbers)

    assert of(0.01) > 0.7
    assert of(100.0) < -0.7


def test_pseudo_labels_teach_where_there_are_none_and_weigh_beside_those_there_are(world):
    x, topics, numbers = world
    train = np.isin(np.arange(COUNT) % 6, (0, 1, 2, 3))
    counted = {"complexity": {"one": numbers[train]}}
    lengths = np.random.default_rng(1).integers(2, 80, COUNT)
    bare = {"one": make_source({"topic": topics}, lengths=lengths)}
    assert "complexity" not in fit_heads(PROJECTION, bare, vectors=x)
    ignored = fit_heads(PROJECTION, bare, vectors=x, pseudo_labels=counted)
    assert "complexity" not in ignored  # they weigh nothing unless asked to
    taught = fit_heads(PROJECTION, bare, vectors=x, pseudo_labels=counted, pseudo_weight=0.3)
    assert order(taught, x, numbers) > 0.7
    labelled = {"one": make_source({"complexity": -numbers})}
    for weight, sign in ((0.1, -1), (10.0, 1)):
        heads = fit_heads(
            PROJECTION, labelled, vectors=x, pseudo_labels=counted, pseudo_weight=weight
        )
        assert sign * order(heads, x, numbers) > 0.7


def test_numbers_counted_in_texts_are_no_labels_beside_categories(world):
    x, topics, numbers = world
    train = np.isin(np.arange(COUNT) % 6, (0, 1, 2, 3))
    counted = {"complexity": {"one": numbers[train]}}
    levels = {"one": make_source({"complexity": topics})}
    alone = fit_heads(PROJECTION, levels, vectors=x)["complexity"]
    beside = fit_heads(PROJECTION, levels, vectors=x, pseudo_labels=counted, pseudo_weight=1.0)
    assert beside["complexity"].classes == alone.classes
    np.testing.assert_array_equal(beside["complexity"].weight, alone.weight)
