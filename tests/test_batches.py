"""A batch is a pure function of (seed, step), of one source, and fit for its factor."""

import numpy as np
import pytest
import torch

from subspace.batches import BatchPlan, make_batch
from subspace.labels import label_source
from subspace.records import Record


def labels_of(source: str, rows: list[tuple[dict, str | None]]):
    records = [
        Record(str(n), "t", source, factors, "train", group)
        for n, (factors, group) in enumerate(rows)
    ]
    return label_source(source, records)


@pytest.fixture(scope="module")
def plan() -> BatchPlan:
    parallel = [
        ({"topic": f"t{g % 5}", "style": style}, f"g{g}") for g in range(60) for style in "abc"
    ]
    uneven = [({"topic": "rare" if n % 10 == 0 else "common"}, None) for n in range(300)]
    numbers = [({"complexity": float(n)} if n % 3 else {"mood": "x"}, None) for n in range(300)]
    return BatchPlan(
        sources=(
            labels_of("parallel", parallel),
            labels_of("uneven", uneven),
            labels_of("numbers", numbers),
        ),
        factors=("topic", "style", "complexity"),
        size=36,
        seed=0,
    )


def test_the_same_step_gives_the_same_batch_whenever_it_is_drawn(plan):
    later = [plan.draw(step) for step in reversed(range(20))][::-1]
    for step, (source, positions) in enumerate(later):
        again = BatchPlan(plan.sources, plan.factors, plan.size, plan.seed).draw(step)
        assert again[0] == source
        np.testing.assert_array_equal(again[1], positions)


def test_other_steps_and_seeds_give_other_batches(plan):
    other = BatchPlan(plan.sources, plan.factors, plan.size, seed=1)
    drawn = {tuple(p.draw(step)[1]) for p in (plan, other) for step in range(20)}
    assert len(drawn) == 40


def test_a_batch_never_repeats_a_text_nor_exceeds_its_size(plan):
    for step in range(60):
        source, positions = plan.draw(step)
        assert 2 <= len(positions) <= plan.size
        assert len(set(positions)) == len(positions)
        assert positions.max() < len(plan.sources[source])


def test_whole_groups_are_drawn_where_they_cross_the_factor(plan):
    only_style = BatchPlan(plan.sources, ("style",), plan.size, seed=0)
    _, positions = only_style.draw(0)
    groups = plan.sources[0].groups[positions]
    assert (np.unique(groups, return_counts=True)[1] == 3).all()


def test_classes_are_balanced_however_rare(plan):
    only_uneven = BatchPlan((plan.sources[1],), ("topic",), plan.size, seed=0)
    _, positions = only_uneven.draw(0)
    codes = plan.sources[1].columns["topic"].codes[positions]
    assert np.bincount(codes).tolist() == [18, 18]


def test_texts_without_the_label_are_not_drawn_for_it(plan):
    only_numbers = BatchPlan(plan.sources, ("complexity",), plan.size, seed=0)
    for step in range(10):
        source, positions = only_numbers.draw(step)
        assert source == 2
        assert (plan.sources[2].columns["complexity"].codes[positions] >= 0).all()


def test_every_factor_has_its_turn_however_few_its_sources(plan):
    sources = [plan.draw(step)[0] for step in range(600)]
    share = sources.count(2) / 600  # the only source of complexity, one factor of three
    assert share == pytest.approx(1 / 3, abs=0.06)


def test_a_batch_gathers_the_rows_of_its_texts(plan):
    vectors = np.arange(600, dtype=np.float32).reshape(300, 2)
    positions = np.array([5, 2, 0])
    batch = make_batch(
        vectors, source=2, labels=plan.sources[2].take(positions), rows=positions + 10
    )
    assert batch.x[:, 0].tolist() == [30.0, 24.0, 20.0]
    assert batch.codes["complexity"].dtype == torch.int64
    assert batch.values["complexity"].tolist()[:2] == [5.0, 2.0]
    assert torch.isnan(batch.values["complexity"][2])
    assert batch.groups.tolist() == [-1, -1, -1]
    assert set(batch.values) == {"complexity"}
