"""A job of shards: planned by one process, joined by others, linear in the number of shards."""

import json
import os
import pickle
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from models import model_of, with_queries

from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError, RecordError, StoreError
from subspace.model import Model
from subspace.model.embed_shards import ShardJob
from subspace.model.embed_texts import TextEmbedder, embed_to_file
from subspace.model.embedding_shards import read_shards

TEXTS = [f"text number {n} " * (n % 5 + 1) for n in range(40)]


@pytest.fixture(scope="module")
def model(tiny_qwen) -> Model:
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=64))
    return model_of(encoder, widths={"topic": 6, "style": 4})


@pytest.fixture
def texts(tmp_path) -> Path:
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps({"id": f"i{n}", "text": text}) for n, text in enumerate(TEXTS)]
    path.write_text("\n".join(lines))
    return path


def plan(texts: Path, model: Model, *, per_shard: int = 7) -> ShardJob:
    embedder = TextEmbedder(model=model, store=texts.parent / "store")
    return ShardJob.plan(texts, texts.parent / "s", embedder=embedder, texts_per_shard=per_shard)


def test_shards_are_what_one_file_is(texts, model):
    embedder = TextEmbedder(model=model, store=texts.parent / "store")
    one = embed_to_file(texts, texts.parent / "one.npz", embedder=embedder)
    job = plan(texts, model)
    job.write_missing()
    with np.load(texts.parent / "one.npz") as stored:
        np.testing.assert_array_equal(stored["embeddings"], one.blocks.array)
        np.testing.assert_allclose(
            np.concatenate(job.shards.vectors()), one.blocks.array, atol=1e-6
        )
        assert [i for ids, _ in job.shards.shards() for i in ids] == stored["ids"].tolist()
        assert json.loads(str(stored["layout"])) == model.layout.to_widths()
    assert job.shards.truncated() == one.truncated > 0


@pytest.mark.parametrize("odd", ["i" * 300_000, "\u05e9\U0001f308" * 90_000])
def test_a_file_is_as_large_as_its_ids_and_they_are_all_there(texts, model, odd, caplog):
    ids = [odd, *(f"i{n}\u00e9" for n in range(len(TEXTS) - 1))]
    lines = [json.dumps({"id": i, "text": t}) for i, t in zip(ids, TEXTS, strict=True)]
    texts.write_text("\n".join(lines))
    output = texts.parent / "odd.npz"
    embed_to_file(texts, output, embedder=TextEmbedder(model=model, store=texts.parent / "store"))
    with np.load(output) as stored:
        assert "ids" not in stored
        ends, letters = stored["ids_offsets"], bytes(stored["ids_utf8"])
    assert [letters[a:b].decode() for a, b in pairwise(ends)] == ids
    # 300 kB padded to all of the texts would be tens of megabytes.
    assert output.stat().st_size < len("".join(ids).encode()) + 100_000
    assert "ids_utf8" in caplog.text


def test_shards_are_read_with_their_texts_wherever_these_lie_now(texts, model):
    job = plan(texts, model)
    projection = model.projection
    with pytest.raises(StoreError, match="6 of 6 shards are not done"):
        read_shards(job.shards.folder, texts=texts, projection=projection)
    job.write_missing()
    moved = texts.rename(texts.with_stem("moved"))
    parts = list(read_shards(job.shards.folder, texts=moved, projection=projection))
    assert [record.text for records, _ in parts for record in records] == TEXTS
    whole = np.concatenate([blocks for _, blocks in parts])
    np.testing.assert_array_equal(whole, np.concatenate(job.shards.vectors()))
    other = with_queries(model).projection
    with pytest.raises(StoreError, match="made with another checkpoint; give that one"):
        read_shards(job.shards.folder, texts=moved, projection=other)
    moved.write_text(moved.read_text().replace("number 3", "number 4"))
    with pytest.raises(RecordError, match="was changed"):
        read_shards(job.shards.folder, texts=moved, projection=projection)


def test_shards_of_queries_are_not_read_as_documents(texts, model):
    embedder = TextEmbedder(model=model, store=texts.parent / "store", kind="query")
    folder = texts.parent / "s"
    ShardJob.plan(texts, folder, embedder=embedder, texts_per_shard=40).write_missing()
    with pytest.raises(StoreError, match="are of queries, not of documents"):
        read_shards(folder, texts=texts, projection=model.projection)


def test_the_work_is_linear_in_the_number_of_shards(texts, model, monkeypatch):
    """To ask for every file again before each shard is asking S times S times."""
    job = plan(texts, model, per_shard=1)
    folder, asked, stat, listing = job.shards.folder, [], os.stat, Path.iterdir

    def counting(path, *arguments, **options):
        if Path(str(path)).parent == folder:
            asked.append(path)
        return stat(path, *arguments, **options)

    def listed(path):
        asked.append(path)
        return listing(path)

    monkeypatch.setattr(os, "stat", counting)
    monkeypatch.setattr(Path, "iterdir", listed)
    job.write_missing()
    assert asked.count(folder) == 1
    assert len(asked) <= 2 + 5 * len(TEXTS)


def test_another_process_joins_when_the_plan_is_there(texts, model):
    folder = texts.parent / "s"
    planning = threading.Timer(0.3, plan, (texts, model))
    planning.start()
    embedder = TextEmbedder(model=model, store=texts.parent / "store")
    joined = ShardJob.join(texts, folder, embedder=embedder)
    planning.join()
    sent = pickle.loads(pickle.dumps(joined))  # as a process that is started gets it
    sent.write(2)
    assert joined.shards.missing() == [0, 1, 3, 4, 5]
    done = (folder / "00002.npy").stat().st_mtime_ns
    joined.write(2)
    assert (folder / "00002.npy").stat().st_mtime_ns == done, "what is done is not done again"


def test_a_plan_that_never_comes_is_said(texts, model, monkeypatch):
    monkeypatch.setattr("subspace.model.embed_shards._PATIENCE", 0.0)
    embedder = TextEmbedder(model=model, store=texts.parent / "store")
    with pytest.raises(StoreError, match="holds no shards"):
        ShardJob.join(texts, texts.parent / "s", embedder=embedder)


def test_another_encoder_is_refused_and_another_precision_is_not(texts, model):
    other = replace(model, encoder=replace(model.encoder, max_length=32))
    embedder = TextEmbedder(model=other, store=texts.parent / "store")
    with pytest.raises(CheckpointError, match="max_length: 64, not 32"):
        embedder(TEXTS[:1])
    half = TextEmbedder(model=model, store=texts.parent / "store", dtype="bfloat16")
    assert half(TEXTS[:1]).blocks.array.shape == (1, 10)
    assert half.encoder_dtype == "bfloat16"
