"""Where a label comes from: read, checked, kept, and counted by its weight."""

import json

import numpy as np
import pytest

from subspace.data.labels import label_source
from subspace.data.records import Record, hash_records, read_sources
from subspace.errors import ConfigError, RecordError
from subspace.fitting.moments import collect_moments
from subspace.fitting.scatter import factor_scatter
from subspace.training.batches import BatchPlan
from subspace.training.data_module import FactorData

WEIGHTS = {"features": 2.0, "checkpoint": 3.0}


def record(name, factors, *, group=None, **origins) -> Record:
    return Record(
        id=str(name),
        text=f"text {name}",
        source="s",
        factors=factors,
        split="train",
        group=group,
        origins=origins,
    )


def write(path, **more):
    line = {"id": "a", "text": "b", "factors": {"topic": "c", "complexity": 1}, **more}
    path.write_text(json.dumps(line) + "\n")
    return path


def mixed(count=60):
    """Categories and numbers, some of them by features (2) or a checkpoint (3), in groups."""
    origins = ["", "features", "checkpoint:minilm"]
    return [
        record(
            n,
            {"style": "abc"[n % 3], "complexity": float(n * n % 7)},
            group=f"g{n // 4}" if n < 40 else None,
            **{f: o for f, o in [("style", origins[n % 3]), ("complexity", origins[n % 2])] if o},
        )
        for n in range(count)
    ]


def test_origins_are_read_and_human_labels_have_none(tmp_path):
    path = write(tmp_path / "s.jsonl", origins={"topic": "clusters"})
    (found,) = read_sources([path])["s"]
    assert found.origins == {"topic": "clusters"}
    (found,) = read_sources([write(tmp_path / "t.jsonl")])["t"]
    assert found.origins == {}


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        ({"style": "features"}, "names 'style'"),
        ({"topic": ""}, "must be a text"),
        ({"topic": 3}, "must be a text"),
        (["topic"], "must say who"),
    ],
)
def test_wrong_origins_are_refused_with_their_line(origins, said, tmp_path):
    with pytest.raises(RecordError, match=f"s.jsonl:1: .*{said}"):
        read_sources([write(tmp_path / "s.jsonl", origins=origins)])


def test_the_hash_of_records_without_origins_is_what_it_was():
    plain = [record(1, {"topic": "a"})]
    assert hash_records(plain) == (
        "85d924d13db1ecacde6aa4a26059b77f0bf17043d10d9c9c08aaa510d517beb0"
    )
    assert hash_records(plain) != hash_records([record(1, {"topic": "a"}, topic="features")])


def test_labels_weigh_what_their_origin_does():
    records = [
        record(1, {"style": "a"}),
        record(2, {"style": "b"}, style="features"),
        record(3, {"style": "a"}, style="checkpoint:minilm"),
        record(4, {"style": "b"}, style="language-model:x"),
    ]
    column = label_source("s", records, origin_weights=WEIGHTS).columns["style"]
    assert column.weights.tolist() == [1, 2, 3, 1]
    assert column.take(np.array([2, 1])).weights.tolist() == [3, 2]
    assert label_source("s", records).columns["style"].weights is None


def test_weight_zero_leaves_a_label_out():
    records = [
        record(n, {"style": "ab"[n % 2]}, **({"style": "features"} if n > 3 else {}))
        for n in range(8)
    ]
    column = label_source("s", records, origin_weights={"features": 0}).columns["style"]
    assert column.labelled.tolist() == [0, 1, 2, 3]
    every = [record(n, {"style": "a"}, style="features") for n in range(3)]
    assert "style" not in label_source("s", every, origin_weights={"features": 0}).columns


def test_a_text_of_weight_two_is_two_texts():
    records = mixed()
    # Origins of one factor only: a copy of a text copies all its labels.
    records = [
        record(
            r.id,
            {"style": r.factors["style"]},
            group=r.group,
            **{k: v for k, v in r.origins.items() if k == "style"},
        )
        for r in records
    ]
    x = np.random.default_rng(0).normal(size=(len(records), 5)).astype(np.float32)
    labels = label_source("s", records, origin_weights=WEIGHTS)
    weights = labels.columns["style"].weights.astype(int)
    copies = np.repeat(np.arange(len(records)), weights)
    copied = label_source("s", [records[n] for n in copies])
    weighted = collect_moments(x, rows=np.arange(len(x)), labels=labels).factors["style"]
    repeated = collect_moments(x, rows=copies, labels=copied).factors["style"]
    for name in ("counts", "means"):
        np.testing.assert_allclose(
            getattr(weighted, name), getattr(repeated, name), rtol=1e-5, atol=1e-7
        )
    plain = collect_moments(x, rows=np.arange(len(x)), labels=label_source("s", records)).factors[
        "style"
    ]
    assert np.abs(plain.means - weighted.means).max() > 0.01  # the weights matter here


def test_a_source_counts_as_much_as_its_labels():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    x[:40, 0] += np.arange(40) % 2 * 4.0  # people label what shows in the first dimension,
    x[40:, 1] += np.arange(40) % 2 * 4.0  # measures what shows in the second
    people = [record(n, {"style": "ab"[n % 2]}) for n in range(40)]
    counted = [record(n, {"style": "ab"[n % 2]}, style="features") for n in range(40)]

    def shares(weight):
        moments = {
            name: collect_moments(
                x,
                rows=rows,
                labels=label_source(name, records, origin_weights={"features": weight}),
            )
            for name, records, rows in [
                ("people", people, np.arange(40)),
                ("counted", counted, np.arange(40, 80)),
            ]
        }
        return np.diag(factor_scatter(moments, factor="style", dims=np.arange(4)))

    assert shares(1.0)[1] == pytest.approx(shares(1.0)[0], rel=0.3)
    ratio = shares(0.1)[1] / shares(0.1)[0] / (shares(1.0)[1] / shares(1.0)[0])
    assert ratio == pytest.approx(0.1, rel=0.1)


def test_batches_draw_labels_in_proportion_to_their_weights():
    records = [
        record(n, {"complexity": float(n)}, **({"complexity": "features"} if n % 2 else {}))
        for n in range(200)
    ]
    labels = label_source("s", records, origin_weights={"features": 0.25})
    plan = BatchPlan(sources=(labels,), factors=("complexity",), size=10, seed=0)
    drawn = np.concatenate([plan.draw(step)[1] for step in range(300)])
    odd = (drawn % 2 == 1).mean()
    assert odd == pytest.approx(0.2, abs=0.03)  # 0.25 of 1.25
    same = BatchPlan(
        sources=(label_source("s", records),), factors=("complexity",), size=10, seed=0
    )
    drawn = np.concatenate([same.draw(step)[1] for step in range(300)])
    assert (drawn % 2 == 1).mean() == pytest.approx(0.5, abs=0.03)


def test_sources_are_drawn_in_proportion_to_their_labels_weights():
    people = label_source("p", [record(n, {"complexity": float(n)}) for n in range(20)])
    counted = label_source(
        "c",
        [record(n, {"complexity": float(n)}, complexity="features") for n in range(20)],
        origin_weights={"features": 0.25},
    )
    plan = BatchPlan(sources=(people, counted), factors=("complexity",), size=10, seed=0)
    sources = [plan.draw(step)[0] for step in range(1000)]
    assert np.mean(sources) == pytest.approx(0.2, abs=0.04)


def test_groups_and_classes_with_weights_are_drawn():
    labels = label_source("s", mixed(), origin_weights=WEIGHTS)
    plan = BatchPlan(sources=(labels,), factors=("style", "complexity"), size=16, seed=0)
    for step in range(30):
        _, positions = plan.draw(step)
        assert len(set(positions.tolist())) == len(positions) > 1


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(weight):
    with pytest.raises(ConfigError, match=r"data\.origin_weights: 'features'"):
        FactorData(sources=["x"], origin_weights={"features": weight})
