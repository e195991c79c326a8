"""Probes beside a checkpoint: fitted on its own blocks, kept whole, refused when stale."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr
from worlds import COUNT, PLACES, cut, embedded, make_labels, plant

from subspace.blocks import BlockLayout
from subspace.data.labels import label_source
from subspace.data.records import Record
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError, QueryError
from subspace.fitting.linear_head_fit import fit_probes
from subspace.fitting.stored_sources import StoredSource
from subspace.model import Checkpoint
from subspace.model.linear_heads import BlockProbes, Head, load_probes

LAYOUT = BlockLayout.from_widths({"topic": 3, "complexity": 2, "residual": 4})
TOPICS = ("art", "law", "sea")


def make_probes() -> BlockProbes:
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return BlockProbes(
        layout=LAYOUT,
        heads={
            "topic": Head(weight=draw(3, 3), bias=draw(3), classes=TOPICS),
            "complexity": Head(weight=draw(1, 2), bias=draw(1), classes=None),
        },
    )


@pytest.fixture
def folder(tiny_qwen, tmp_path):
    """A saved checkpoint of that layout with its probes."""
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen)))
    projection = replace(
        cut({"topic": slice(0, 3), "complexity": slice(3, 5), "residual": slice(5, 9)}),
        weight=np.eye(9, 32, dtype=np.float32),
        mean=np.zeros(32, np.float32),
    )
    Checkpoint(
        projection=projection, encoder_model=str(tiny_qwen), fingerprint=encoder.fingerprint
    ).save(tmp_path / "k")
    make_probes().save(tmp_path / "k")
    return tmp_path / "k"


def planted_source() -> StoredSource:
    """The planted world as a source: records with its labels, rows in order."""
    labels = make_labels()
    source = embedded(labels)
    columns = labels.columns
    records = [
        Record(
            id=r.id,
            text=r.text,
            source="test",
            split=r.split,
            factors={
                "topic": f"topic {columns['topic'].codes[n]}",
                "style": f"style {columns['style'].codes[n]}",
                "complexity": 10 + 5 * float(columns["complexity"].values[n]),
            },
        )
        for n, r in enumerate(source.records)
    ]
    return StoredSource(
        records=records, labels=label_source("test", records), rows=np.arange(COUNT), sha256=""
    )


def test_what_is_saved_is_read(folder):
    mine, read = make_probes(), load_probes(folder, layout=LAYOUT)
    z = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)
    assert read.predict(z) == mine.predict(z)
    assert set(read.predict(z)["topic"]) <= set(TOPICS)
    np.testing.assert_array_equal(read.direction("complexity"), mine.direction("complexity"))


def test_a_head_reads_its_own_block_alone():
    probes = make_probes()
    z = np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32)
    other = z.copy()
    other[:, LAYOUT.slice("topic")] += 1
    assert probes.predict(z)["complexity"] == probes.predict(other)["complexity"]
    slow = [
        float(probes.heads["complexity"].weight[0] @ row[3:5] + probes.heads["complexity"].bias[0])
        for row in z
    ]
    np.testing.assert_allclose(probes.predict(z)["complexity"], slow, rtol=1e-5)
    assert not probes.direction("complexity")[LAYOUT.slice("topic")].any()


@pytest.mark.parametrize("factor", ["topic", "mood", "residual"])
def test_there_are_directions_of_numbers_alone(factor):
    with pytest.raises(QueryError, match="has directions for complexity"):
        make_probes().direction(factor)


def test_probes_of_other_tensors_are_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tensors_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="belong to other tensors"):
        load_probes(folder, layout=LAYOUT)


def test_a_checkpoint_without_probes_says_how_to_get_some(folder):
    (folder / "probes.json").unlink()
    with pytest.raises(CheckpointError, match="has no probes"):
        load_probes(folder, layout=LAYOUT)
    with pytest.raises(CheckpointError, match=r"a \.ckpt file has no probes"):
        load_probes(None, layout=LAYOUT)


def edit_config(folder, **changes):
    path = folder / "probes.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def with_tensors(folder, **changes):
    """Other tensors with a hash that fits them."""
    import hashlib

    tensors = load_file(folder / "probes.safetensors") | changes
    save_file(tensors, folder / "probes.safetensors")
    content = (folder / "probes.safetensors").read_bytes()
    edit_config(folder, tensors_sha256=hashlib.sha256(content).hexdigest())


def test_damage_is_named(folder):
    def refused(said, damage):
        backup = folder.with_name("backup")
        shutil.copytree(folder, backup, dirs_exist_ok=True)
        damage()
        with pytest.raises(CheckpointError, match=said):
            load_probes(folder, layout=LAYOUT)
        shutil.rmtree(folder)
        backup.rename(folder)

    nan = np.full((1, 2), np.nan, np.float32)
    refused("NaN or infinity", lambda: with_tensors(folder, **{"complexity.weight": nan}))
    wide = np.zeros((1, 7), np.float32)
    refused("shapes", lambda: with_tensors(folder, **{"complexity.weight": wide}))
    refused("are damaged", lambda: (folder / "probes.safetensors").unlink())
    refused("is not the file", lambda: edit_config(folder, tensors_sha256="0" * 64))
    refused("format version 9", lambda: edit_config(folder, format_version=9))
    refused("are damaged", lambda: (folder / "probes.json").write_text("[1]"))
    refused("are damaged", lambda: (folder / "probes.json").write_text("{"))
    refused("are damaged", lambda: edit_config(folder, factors={"mood": None}))
    refused("are damaged", lambda: edit_config(folder, factors={"topic": [1, 2, 3]}))
    load_probes(folder, layout=LAYOUT)  # and whole again


def test_fitted_heads_read_what_was_planted_and_nothing_where_it_is_not():
    source, x = planted_source(), plant(make_labels())
    test = np.flatnonzero([record.split == "test" for record in source.records])

    def scores(places):
        projection = cut(places)
        probes = fit_probes(projection, {"test": source}, vectors=x)
        labels = probes.predict(projection(x[test]))
        truth = [source.records[n].factors for n in test]
        accuracy = np.mean([a == b["topic"] for a, b in zip(labels["topic"], truth, strict=True)])
        order = spearmanr(labels["complexity"], [b["complexity"] for b in truth]).statistic
        return accuracy, order, labels["complexity"]

    wide = {"topic": PLACES["topic"], "complexity": slice(6, 16)}
    accuracy, order, numbers = scores(wide)
    assert accuracy > 0.8
    assert order > 0.5
    assert np.mean(numbers) == pytest.approx(12.5, abs=0.3)  # in the labels' own units
    swapped = {"topic": slice(8, 12), "complexity": slice(0, 4)}
    accuracy, order, _ = scores(swapped)
    assert accuracy < 0.4
    assert abs(order) < 0.2


def test_numbers_of_several_sources_are_in_deviations():
    source, x = planted_source(), plant(make_labels())
    other = StoredSource(
        records=[
            replace(r, factors={"complexity": 1000 * float(r.factors["complexity"])})
            for r in source.records
        ],
        labels=source.labels,
        rows=source.rows,
        sha256="",
    )
    projection = cut({"complexity": slice(6, 16)})
    probes = fit_probes(projection, {"one": source, "two": other}, vectors=x)
    numbers = probes.predict(projection(x))["complexity"]
    assert np.mean(numbers) == pytest.approx(0, abs=0.1)
    assert 0.3 < np.std(numbers) < 1.1


def test_classes_that_no_validation_text_has_are_not_learned():
    source, x = planted_source(), plant(make_labels())
    records = [
        replace(r, factors={"topic": f"{r.factors['topic']}{' too' if n % 2 else ''}"})
        if r.split == "train"
        else r
        for n, r in enumerate(source.records)
    ]
    source = replace(source, records=records, labels=label_source("test", records))
    projection = cut({"topic": PLACES["topic"], "style": PLACES["style"]})
    heads = fit_probes(projection, {"test": source}, vectors=x).heads
    assert set(heads["topic"].classes) == {f"topic {n}" for n in range(4)}


def test_a_factor_of_one_class_or_without_labels_has_no_head():
    source, x = planted_source(), plant(make_labels())
    records = [replace(r, factors={"topic": "one"}) for r in source.records]
    source = replace(source, records=records, labels=label_source("test", records))
    projection = cut({"topic": PLACES["topic"], "style": PLACES["style"]})
    assert not fit_probes(projection, {"test": source}, vectors=x).heads


def test_labels_weigh_in_the_fit():
    source, x = planted_source(), plant(make_labels())
    wrong = [
        replace(
            r,
            factors={"complexity": -float(r.factors["complexity"])},
            origins={"complexity": "measures"},
        )
        if n % 2
        else replace(r, factors={"complexity": r.factors["complexity"]})
        for n, r in enumerate(source.records)
    ]
    projection = cut({"complexity": slice(6, 16)})

    def order(weight):
        labels = label_source("test", wrong, origin_weights={"measures": weight})
        changed = replace(source, records=wrong, labels=labels)
        probes = fit_probes(projection, {"test": changed}, vectors=x)
        truth = [r.factors["complexity"] for r in source.records]
        return spearmanr(probes.predict(projection(x))["complexity"], truth).statistic

    assert order(0.01) > 0.5
    assert order(100.0) < -0.5
