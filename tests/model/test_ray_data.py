"""Texts to blocks in Ray Data, on a local Ray: what the library gives, and no text ends a run."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import model_of, with_queries

from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError, ConfigError
from subspace.model import load
from subspace.model.ray_data import EmbedTexts

TEXTS = ["a dog", "the cat sat on the mat", "", "tomatoes from seed", "\ud800 half", "\n\t "]
DIM = 12


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen, tmp_path_factory) -> Path:
    """A checkpoint for the tiny encoder, with queries of their own."""
    folder = tmp_path_factory.mktemp("ray") / "K"
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=64))
    with_queries(model_of(encoder, widths={"topic": 8, "style": 4})).save(folder)
    return folder


@pytest.fixture(scope="module")
def embed(checkpoint) -> EmbedTexts:
    return EmbedTexts(checkpoint=str(checkpoint))


def test_rows_get_their_blocks_or_the_reason_why_not(embed, checkpoint):
    batch = {"id": np.arange(6), "text": np.array(TEXTS, dtype=object)}
    found = embed(batch)
    assert set(found) == {"id", "text", "embedding", "embedding_error"}
    wanted = load(checkpoint).encode_document(TEXTS[:2]).array
    np.testing.assert_allclose(found["embedding"][:2], wanted, atol=1e-5)
    assert [bool(said) for said in found["embedding_error"]] == [False, False, True, False, 1, 1]
    assert not found["embedding"][[2, 4, 5]].any()
    assert "surrogate" in found["embedding_error"][4]


def test_queries_are_embedded_as_queries(checkpoint):
    embed = EmbedTexts(checkpoint=str(checkpoint), queries=True, embedding="q", dtype="bfloat16")
    found = embed({"text": np.array(TEXTS[:2], dtype=object)})["q"]
    wanted = load(checkpoint).encode_query(TEXTS[:2]).array
    assert (found * wanted).sum(axis=1).min() > 0.98 * 2  # two blocks, in half precision
    assert not np.allclose(wanted, load(checkpoint).encode_document(TEXTS[:2]).array, atol=0.1)


def test_another_encoder_is_refused_as_it_is_opened(checkpoint):
    with pytest.raises(CheckpointError, match="made for another encoder"):
        EmbedTexts(checkpoint=str(checkpoint), encoder="minilm")


def test_texts_that_are_cut_are_said(embed, caplog):
    embed({"text": np.array(["word " * 200, "short"], dtype=object)})
    assert "1 of 2 texts are longer than the encoder's 64 tokens" in caplog.text


def test_a_batch_of_nothing_good_and_a_batch_without_rows_are_no_crash(embed):
    assert embed({"text": np.array(["", " "], dtype=object)})["embedding"].shape == (2, DIM)
    assert embed({"text": np.array([], dtype=object)})["embedding"].shape == (0, DIM)


def test_a_column_that_is_not_there_is_named(embed):
    with pytest.raises(ConfigError, match="no column 'text', only body, id"):
        embed({"id": np.arange(1), "body": np.array(["x"], dtype=object)})


SCRIPT = """
import sys
from subspace.model.ray_data import EmbedTexts

assert "ray" not in sys.modules, "the entry itself does not import it"
import ray

ray.init(num_cpus=1, include_dashboard=False, _node_ip_address="127.0.0.1")
texts = ray.data.from_items([{"id": n, "text": f"text number {n}"} for n in range(50)])
blocks = texts.map_batches(
    EmbedTexts,
    fn_constructor_kwargs={"checkpoint": sys.argv[1]},
    batch_size=16,
    compute=ray.data.ActorPoolStrategy(size=1),
)
blocks.write_parquet(sys.argv[2])
"""


def test_a_local_ray_embeds_a_dataset_with_a_worker_of_its_own(tmp_path, embed, checkpoint):
    pytest.importorskip("ray.data")
    import pyarrow.parquet

    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, checkpoint, tmp_path / "blocks"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    rows = pyarrow.parquet.read_table(tmp_path / "blocks").to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(50))
    ordered = sorted(rows, key=lambda row: row["id"])
    texts = np.array([row["text"] for row in ordered], dtype=object)
    found = np.array([row["embedding"] for row in ordered])
    np.testing.assert_allclose(found, embed({"text": texts})["embedding"], atol=1e-5)
    assert not any(row["embedding_error"] for row in rows)
