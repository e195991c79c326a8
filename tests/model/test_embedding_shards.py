"""Shards put together are the whole; one that is not done is absent, and never half."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from subspace.blocks import BlockLayout
from subspace.data.document_file import DocumentFile
from subspace.errors import StoreError
from subspace.model.embedding_shards import EmbeddingShards

LAYOUT = BlockLayout.from_widths({"topic": 3, "style": 2})


def make_source(folder: Path, *, texts: int = 10, per_part: int = 4) -> DocumentFile:
    path = folder / "texts.jsonl"
    path.write_text("".join(f'{{"id": "i{n}", "text": "text number {n}"}}\n' for n in range(texts)))
    return DocumentFile.scan(path, texts_per_part=per_part)


def start(folder: Path, source: DocumentFile, *, digest: str = "p", layout=LAYOUT):
    return EmbeddingShards.create(folder, layout=layout, source=source, projection_digest=digest)


def fill(shards: EmbeddingShards, numbers) -> np.ndarray:
    whole = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
    for number in numbers:
        ids = [document.id for document in shards.source.read(number)]
        first = 4 * number
        shards.write(number, ids=ids, embeddings=whole[first : first + len(ids)])
    return whole


def test_shards_written_in_any_order_are_the_whole_mapped_not_copied(tmp_path):
    shards = start(tmp_path / "s", make_source(tmp_path))
    assert shards.missing() == [0, 1, 2]
    whole = fill(shards, [2, 0])
    assert shards.missing() == [1]
    fill(start(tmp_path / "s", make_source(tmp_path)), [1])  # another process
    opened = EmbeddingShards.open(tmp_path / "s")
    assert opened.layout == LAYOUT
    ids, parts = zip(*opened.shards(), strict=True)
    assert [one for part in ids for one in part] == [f"i{n}" for n in range(10)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert all(isinstance(part, np.memmap) for part in parts)
    with pytest.raises(ValueError, match="read-only"):
        parts[0][0, 0] = 1


def test_what_is_not_done_is_said_by_number(tmp_path):
    shards = start(tmp_path / "s", make_source(tmp_path))
    fill(shards, [0])
    with pytest.raises(StoreError, match=r"2 of 3 shards are not done \(first: 1\)"):
        next(shards.shards())


@pytest.mark.parametrize("change", ["text", "shard size", "projection", "layout"])
def test_another_run_s_folder_is_refused_and_left_as_it_is(tmp_path, change):
    shards = start(tmp_path / "s", make_source(tmp_path))
    fill(shards, [0])
    before = sorted(path.read_bytes() for path in (tmp_path / "s").iterdir())
    source = make_source(tmp_path, per_part=3 if change == "shard size" else 4)
    if change == "text":
        path = tmp_path / "texts.jsonl"
        path.write_text(path.read_text().replace("number 7", "number 8"))
        source = DocumentFile.scan(path, texts_per_part=4)
    layout = BlockLayout.from_widths({"topic": 5}) if change == "layout" else LAYOUT
    said = {"projection": "checkpoint", "layout": "layout"}.get(change, "content of --input")
    with pytest.raises(StoreError, match=f"of another run, with another {said}"):
        start(tmp_path / "s", source, digest="q" if change == "projection" else "p", layout=layout)
    assert sorted(path.read_bytes() for path in (tmp_path / "s").iterdir()) == before


def test_the_same_texts_in_a_file_of_another_name_go_on(tmp_path):
    start(tmp_path / "s", make_source(tmp_path))
    (tmp_path / "texts.jsonl").rename(tmp_path / "moved.jsonl")
    moved = DocumentFile.scan(tmp_path / "moved.jsonl", texts_per_part=4)
    assert start(tmp_path / "s", moved).source.path == tmp_path / "moved.jsonl"


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    source = make_source(tmp_path)
    with pytest.raises(StoreError, match="holds something else"):
        start(tmp_path, source)
    with pytest.raises(StoreError, match="holds no shards"):
        EmbeddingShards.open(tmp_path)


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"format_version": 9}', '{"layout": 3}'])
def test_a_damaged_manifest_is_named(tmp_path, manifest):
    source = make_source(tmp_path)
    start(tmp_path / "s", source)
    (tmp_path / "s" / "manifest.json").write_text(manifest)
    with pytest.raises(StoreError, match=r"manifest\.json|holds no shards"):
        EmbeddingShards.open(tmp_path / "s")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        start(tmp_path / "s", source)


@pytest.mark.parametrize("damage", ["cut", "pickle", "ids"])
def test_a_damaged_shard_is_named_by_number(tmp_path, damage):
    shards = start(tmp_path / "s", make_source(tmp_path))
    fill(shards, range(3))
    path = tmp_path / "s" / "00001.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    elif damage == "pickle":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    else:
        (tmp_path / "s" / "00001.json").write_text('{"ids": ["i4"], "truncated": 0}')
        with pytest.raises(StoreError, match=r"shard 1 of .* is damaged"):
            shards.truncated()
    with pytest.raises(StoreError, match=r"shard 1 of .* is damaged .* delete its files 00001\.\*"):
        list(shards.shards())
    for one in (tmp_path / "s").glob("00001.*"):
        one.unlink()
    fill(shards, shards.missing())
    assert len(list(shards.shards())) == 3, "what the message says to do mends it"


def test_a_shard_of_another_shape_is_refused_and_none_is_left_half(tmp_path):
    shards = start(tmp_path / "s", make_source(tmp_path))
    with pytest.raises(StoreError, match="shard 0 needs"):
        shards.write(0, ids=["a"], embeddings=np.zeros((1, 5), np.float32))
    (tmp_path / "s").chmod(0o500)
    try:
        if os.getuid() != 0:  # root writes anywhere
            with pytest.raises(StoreError, match="cannot write shard 0"):
                fill(shards, [0])
    finally:
        (tmp_path / "s").chmod(0o700)
    assert shards.missing() == [0, 1, 2]


def test_what_is_done_is_read_from_one_listing_however_many_shards_there_are(tmp_path, monkeypatch):
    count = 50
    shards = start(tmp_path / "s", make_source(tmp_path, texts=count, per_part=1))
    for number in range(count):
        shards.write(number, ids=[f"i{number}"], embeddings=np.zeros((1, 5), np.float32))
    asked, stat, listing = [], os.stat, Path.iterdir

    def counting(path, *arguments, **options):
        if str(path).startswith(str(tmp_path / "s")):
            asked.append(path)
        return stat(path, *arguments, **options)

    def listed(folder):
        asked.append(folder)
        return listing(folder)

    monkeypatch.setattr(os, "stat", counting)
    monkeypatch.setattr(Path, "iterdir", listed)
    for look in (shards.missing, shards.check_done, shards.truncated, shards.wait):
        asked.clear()
        look()
        assert asked == [tmp_path / "s"], look
    asked.clear()
    assert len(shards.vectors()) == count
    assert len(asked) <= 1 + count
    asked.clear()
    assert shards.is_done(3)
    assert asked == [tmp_path / "s" / "00003.npy"], "and of one shard, its own file alone is asked"


def test_waiting_ends_when_the_others_are_done_or_do_nothing_more(tmp_path):
    shards = start(tmp_path / "s", make_source(tmp_path))
    began = time.monotonic()
    shards.wait(patience=0.3)
    assert time.monotonic() - began >= 0.3
    assert shards.missing() == [0, 1, 2]
    others = [threading.Timer(0.1 * number, fill, (shards, [number])) for number in range(3)]
    for other in others:
        other.start()
    shards.wait()
    assert shards.missing() == []
    for other in others:
        other.join()


WRITE = """
import sys
import numpy as np
from subspace.model.embedding_shards import EmbeddingShards
shards = EmbeddingShards.open(sys.argv[1])
rng = np.random.default_rng(0)
for number, part in enumerate(shards.source.parts):
    rows = rng.normal(size=(part.texts, shards.layout.dim)).astype(np.float32)
    if not shards.is_done(number):
        shards.write(number, ids=[str(n) for n in range(part.texts)], embeddings=rows)
"""


@pytest.mark.slow
def test_kills_at_any_moment_leave_shards_done_or_absent(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(f'{{"id": "{n}", "text": "t"}}\n' for n in range(1500)))
    source = DocumentFile.scan(path, texts_per_part=5)
    layout = BlockLayout.from_widths({"topic": 5_000})
    shards = start(tmp_path / "s", source, layout=layout)
    command = [sys.executable, "-c", WRITE, str(tmp_path / "s")]
    delay = random.Random(0)
    for _ in range(4):
        before = len(shards.missing())
        with subprocess.Popen(command) as process:
            while len(shards.missing()) == before:
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(0.02 * delay.random())
            process.send_signal(signal.SIGKILL)
    assert shards.missing(), "it was killed in the middle of its work"
    start(tmp_path / "s", source, layout=layout)  # the next run clears what was half written
    assert not [path for path in (tmp_path / "s").iterdir() if path.name.endswith(".partial")]
    subprocess.run(command, check=True)
    rng = np.random.default_rng(0)
    for (_, rows), part in zip(shards.shards(), source.parts, strict=True):
        wanted = rng.normal(size=(part.texts, layout.dim)).astype(np.float32)
        np.testing.assert_array_equal(rows, wanted)


def test_the_manifest_says_where_each_shard_s_texts_stand(tmp_path):
    start(tmp_path / "s", make_source(tmp_path))
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert [part["texts"] for part in manifest["source"]["parts"]] == [4, 4, 2]
    assert manifest["layout"] == LAYOUT.to_widths()
