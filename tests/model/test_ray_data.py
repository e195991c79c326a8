"""Texts to blocks in Ray Data, on a local Ray: what the library gives, and no text ends a run."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_commands import ROOT

from subspace.encoder import Encoder
from subspace.errors import ConfigError
from subspace.model import load_checkpoint
from subspace.model.ray_data import EmbedTexts

CHECKPOINT = ROOT / "checkpoints" / "minilm"
TEXTS = ["a dog", "the cat sat on the mat", "", "tomatoes from seed", "\ud800 half", "\n\t "]


@pytest.fixture(scope="module")
def embed() -> EmbedTexts:
    return EmbedTexts(checkpoint=str(CHECKPOINT))


def test_rows_get_their_blocks_or_the_reason_why_not(embed):
    batch = {"id": np.arange(6), "text": np.array(TEXTS, dtype=object)}
    found = embed(batch)
    assert set(found) == {"id", "text", "embedding", "embedding_error"}
    checkpoint = load_checkpoint(CHECKPOINT)
    wanted = checkpoint.projection(Encoder(checkpoint.encoder_spec()).encode(TEXTS[:2]))
    np.testing.assert_allclose(found["embedding"][:2], wanted, atol=1e-5)
    assert [bool(said) for said in found["embedding_error"]] == [False, False, True, False, 1, 1]
    assert not found["embedding"][[2, 4, 5]].any()
    assert "surrogate" in found["embedding_error"][4]


def test_a_batch_of_nothing_good_and_a_batch_without_rows_are_no_crash(embed):
    assert embed({"text": np.array(["", " "], dtype=object)})["embedding"].shape == (2, 312)
    assert embed({"text": np.array([], dtype=object)})["embedding"].shape == (0, 312)


def test_a_column_that_is_not_there_is_named(embed):
    with pytest.raises(ConfigError, match="no column 'text', only body, id"):
        embed({"id": np.arange(1), "body": np.array(["x"], dtype=object)})


SCRIPT = """
import sys
import ray
from subspace.model.ray_data import EmbedTexts

ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
texts = ray.data.from_items([{"id": n, "text": f"text number {n}"} for n in range(50)])
blocks = texts.map_batches(
    EmbedTexts,
    fn_constructor_kwargs={"checkpoint": sys.argv[1]},
    batch_size=16,
    compute=ray.data.ActorPoolStrategy(size=2),
)
blocks.write_parquet(sys.argv[2])
"""


def test_a_local_ray_embeds_a_dataset_with_two_workers(tmp_path, embed):
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
        [sys.executable, "-c", SCRIPT, CHECKPOINT, tmp_path / "blocks"],
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


def test_the_entry_itself_does_not_import_ray():
    code = "import sys, subspace.model.ray_data; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
