"""What a fit hands to its loggers, read back from what they wrote."""

import csv
import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import PathFinder
from pathlib import Path

import numpy as np
import pytest
import yaml

from subspace.blocks import BlockLayout
from subspace.cli.fit import run_training
from subspace.cli.fit_logging import log_separation, measure_on_validation
from subspace.data.labels import label_source
from subspace.data.records import Record, read_sources
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.fitting.stored_sources import StoredSource, store_sources
from subspace.model import load
from subspace.model.markdown import table
from subspace.model.projection import Projection

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = {"topic": 6, "style": 4, "complexity": 4, "specificity": 4}
TERMS = [f"{kind}/{block}" for kind in ("contrastive", "probe", "anchor") for block in BLOCKS]
LOSSES = {
    f"{split}/{term}" for split in ("train", "val") for term in [*TERMS, "keep/topic", "loss"]
}

pytestmark = pytest.mark.filterwarnings(
    # Lightning's own use of names that torch and jsonargparse have deprecated.
    "ignore::DeprecationWarning",
    "ignore:.*isinstance.treespec, LeafSpec.*",
)


def arguments(*configs: str, data: Path, encoder: Path) -> list[str]:
    """Of a fit by shipped configurations, on a tiny real encoder."""
    return [
        "fit",
        *(part for name in configs for part in ("--config", str(ROOT / f"configs/{name}.yaml"))),
        *(f"--data.sources=[{data}]", f"--data.encoder.model={encoder}"),
        *("--data.encoder.layers=[1,2]", "--data.encoder.max_length=64"),
        *(f"--model.blocks={json.dumps(BLOCKS)}", "--data.steps_per_epoch=15"),
        *("--data.batch_size=32", "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"),
        *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
    ]


@pytest.fixture(scope="module")
def fitted(labelled_folder, tiny_qwen, tmp_path_factory) -> dict[str, Path]:
    """A folder with a fit, by the name of its logger."""
    import wandb

    folders = {name: tmp_path_factory.mktemp(name) for name in ("wandb", "tensorboard")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_SILENT", "true")
        for name, folder in folders.items():
            patch.chdir(folder)
            run_training(arguments("demo", "sgd", name, data=labelled_folder, encoder=tiny_qwen))
        wandb.finish()
    return folders


@pytest.fixture(scope="module")
def separation(fitted, labelled_folder):
    """The matrix of these fits, which are the same, measured again from a checkpoint."""
    folder = fitted["wandb"]
    model, other = (load(path / "checkpoints/demo") for path in fitted.values())
    np.testing.assert_array_equal(model.projection.weight, other.projection.weight)
    encoder = CachedEncoder.open(model.encoder, root=folder / "runs/embeddings")
    return measure_on_validation(
        model.projection,
        sources=store_sources(read_sources([labelled_folder]), encoder=encoder),
        vectors=encoder.store.vectors,
        raw=model.fingerprint.last_layer,
    )


def flatten(matrix) -> dict[str, float]:
    return {
        f"separation/{block}/{factor}": value
        for block, row in zip(matrix.blocks, matrix.values, strict=True)
        for factor, value in zip(matrix.factors, row, strict=True)
    }


def read_wandb(file: Path) -> Iterator:
    """Records of a W&B file: those of LevelDB's log format, behind seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, parts = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if room < 7 or not kind:
            at += room
            continue
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            record = Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_wandb_has_losses_by_name_the_matrix_and_the_settings(fitted, separation):
    (run,) = fitted["wandb"].glob("runs/wandb/offline-run-*")
    logged, settings = {}, {}
    for record in read_wandb(next(run.glob("*.wandb"))):
        for item in record.history.item:
            logged[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
        for item in record.config.update:
            settings[item.key] = json.loads(item.value_json)
    assert logged.keys() >= LOSSES
    matrix = separation
    for name, value in flatten(matrix).items():
        assert logged[name] == pytest.approx(value, abs=1e-6)
    table = json.loads(next(run.glob("files/media/table/separation/*.json")).read_text())
    assert table["columns"] == ["block", *matrix.factors]
    assert [row[0] for row in table["data"]] == list(matrix.blocks)
    np.testing.assert_allclose([row[1:] for row in table["data"]], matrix.values, atol=6e-4)
    picture = next(run.glob("files/media/images/separation/heat_map*.png")).read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert settings["model"]["blocks"] == BLOCKS
    assert settings["data"]["encoder"]["layers"] == [1, 2]
    assert settings["seed_everything"] == 0


def test_tensorboard_has_the_same(fitted, separation):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = fitted["tensorboard"] / "runs/tensorboard/version_0"
    events = EventAccumulator(str(folder)).Reload()
    assert set(events.Tags()["scalars"]) >= LOSSES
    assert len(events.Scalars("train/loss")) == 30
    matrix = separation
    for name, value in flatten(matrix).items():
        assert events.Scalars(name)[0].value == pytest.approx(value, abs=1e-6)
        assert events.Scalars(name)[0].step == 30
    (text,) = events.Tensors("separation/table/text_summary")[0].tensor_proto.string_val
    assert text.decode().splitlines()[0] == f"| block | {' | '.join(matrix.factors)} |"
    (picture,) = events.Images("separation/heat_map")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    settings = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert settings["model"]["blocks"] == BLOCKS


def test_a_logger_writes_only_where_it_is_asked_for(fitted):
    written = {
        name: sorted(path.name for path in (folder / "runs").iterdir())
        for name, folder in fitted.items()
    }
    assert written == {
        "wandb": ["embeddings", "wandb"],
        "tensorboard": ["embeddings", "tensorboard"],
    }


def test_the_closed_form_hands_settings_and_matrix_to_a_logger_too(
    labelled_folder, tiny_qwen, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    options = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"]
    run_training([*arguments("demo", data=labelled_folder, encoder=tiny_qwen), *options])
    folder = tmp_path / "logs/lightning_logs/version_0"
    (row,) = csv.DictReader((folder / "metrics.csv").read_text().splitlines())
    assert float(row["separation/topic/topic"]) > 0
    assert row["step"] == "0"
    settings = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert settings["model"]["blocks"] == BLOCKS
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_logger_that_is_not_installed_is_one_sentence(
    labelled_folder, tiny_qwen, tmp_path, monkeypatch
):
    class Hide(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            return None if name == "tensorboard" else super().find_spec(name, path, target)

    finders = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.delitem(sys.modules, "tensorboard", raising=False)
    monkeypatch.chdir(tmp_path)
    given = arguments("demo", "tensorboard", data=labelled_folder, encoder=tiny_qwen)
    with pytest.raises(ConfigError, match=r"pip install 'subspace-embeddings\[tensorboard\]'"):
        run_training(given)
    assert not list(tmp_path.iterdir())


LAYOUT = BlockLayout.from_widths({"mood": 2, "length": 2})


def make_source(count: int = 400) -> tuple[StoredSource, np.ndarray, Projection]:
    """Mood lies in the first two dimensions, length in the next two; blocks are those."""
    rng = np.random.default_rng(0)
    mood, length = rng.integers(2, size=count), rng.uniform(size=count)
    records = [
        Record(
            id=str(n),
            text="a text of five words",
            source="made",
            factors={"mood": "glad" if mood[n] else "sad", "length": float(length[n])},
            split=("train", "train", "validation", "test")[n % 4],
        )
        for n in range(count)
    ]
    x = rng.normal(size=(count, 4)).astype(np.float32) * 0.3
    x[:, 0] += 2 * mood
    x[:, 2:] += 3 * np.stack([np.cos(3 * length), np.sin(3 * length)], axis=1)
    projection = Projection(weight=np.eye(4, dtype=np.float32), mean=x.mean(axis=0), layout=LAYOUT)
    labels = label_source("made", records)
    source = StoredSource(records=records, labels=labels, rows=np.arange(count), sha256="")
    return source, x, projection


def measure(source: StoredSource, x: np.ndarray, projection: Projection):
    return measure_on_validation(
        projection, sources={"made": source}, vectors=x, raw=slice(0, x.shape[1])
    )


def test_blocks_hold_what_was_put_there():
    matrix = measure(*make_source())
    own, other = matrix.values.diagonal(), matrix.values[::-1].diagonal()
    assert own == pytest.approx(1, abs=0.2)
    assert other == pytest.approx(0, abs=0.25)


def test_no_test_text_is_read_and_validation_texts_are():
    source, x, projection = make_source()
    before = measure(source, x, projection).values

    def spoil(split: str) -> np.ndarray:
        spoilt = x.copy()
        noise = np.nan if split == "test" else 0.5
        spoilt[source.labels.positions(split), :2] += noise * np.array([1, -1], dtype=np.float32)
        return measure(source, spoilt, projection).values

    np.testing.assert_array_equal(spoil("test"), before)
    assert not np.allclose(spoil("validation"), before)


def test_groups_are_not_cut_in_two():
    from subspace.cli.fit_logging import _score_on_validation

    source, *_ = make_source()
    groups = np.arange(len(source.labels)) // 8
    labels = _score_on_validation(replace(source.labels, groups=groups))
    train = source.labels.splits == 0
    parts = [set(groups[train & (labels.splits == part)]) for part in (0, 1)]
    assert not parts[0] & parts[1]
    assert len(parts[1]) / len(set(groups)) == pytest.approx(1 / 3, abs=0.05)


def test_names_cannot_break_the_table():
    assert table(["block", "a|b"], [["c", 0.5]])[0] == "| block | a\\|b |"


def test_what_cannot_be_read_is_said_and_not_logged(caplog):
    source, x, projection = make_source(count=80)
    matrix = measure(source, x, projection)
    log_separation(matrix, loggers=[], step=0)
    assert "no factor has 30 labelled validation texts" in caplog.text
