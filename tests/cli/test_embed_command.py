"""`subspace embed` into shards: one process or several, killed or not, the same blocks."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_commands import ENVIRONMENT, run

from subspace.blocks import BlockLayout
from subspace.encoder import Encoder, EncoderSpec
from subspace.model import Checkpoint
from subspace.model.embedding_shards import EmbeddingShards
from subspace.model.projection import Projection

# What texts may hold: long ones, right to left, emoji, what is not composed, other lines' ends.
ODD = [
    "x",
    "שלום עולם, ככה כותבים",
    "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "e\u0301 \u200b\u2028\u0085",
    "word " * 200_000,  # 1 MB
    "\ufffd\uffff\U0010ffff",
    "a" * 5000,
]


@pytest.fixture(scope="module")
def folder(tiny_qwen, tmp_path_factory) -> Path:
    """A folder with a checkpoint for the tiny encoder and texts."""
    folder = tmp_path_factory.mktemp("embed")
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=64))
    rng = np.random.default_rng(0)
    layout = BlockLayout.from_widths({"topic": 6, "style": 4})
    weight = rng.normal(size=(10, encoder.dim)).astype(np.float32)
    projection = Projection(weight=weight, mean=np.zeros(encoder.dim, np.float32), layout=layout)
    Checkpoint(
        projection=projection, encoder_model=str(tiny_qwen), fingerprint=encoder.fingerprint
    ).save(folder / "K")
    texts = [*ODD, *(f"text number {n} " * (n % 9 + 1) for n in range(93))]
    (folder / "texts.jsonl").write_text(
        "".join(json.dumps({"id": f"i{n}", "text": text}) + "\n" for n, text in enumerate(texts))
    )
    run(*embed("one.npz"), cwd=folder)
    encoder.encode(texts)
    (folder / "truncated").write_text(str(encoder.truncated))
    return folder


def embed(output: str, *options: str, store: str = "store") -> list[str]:
    common = ["--checkpoint", "K", "--input", "texts.jsonl", "--store", store]
    return ["embed", *common, "--output", output, *options]


def read(path: Path) -> tuple[list[str], np.ndarray]:
    ids, parts = zip(*EmbeddingShards.open(path).shards(), strict=True)
    return [one for part in ids for one in part], np.concatenate(parts)


def assert_like_one_file(folder: Path, name: str) -> None:
    ids, found = read(folder / name)
    one = np.load(folder / "one.npz")
    assert ids == one["ids"].tolist()
    np.testing.assert_allclose(found, one["embeddings"], atol=1e-5)


def test_odd_texts_have_vectors_and_what_was_cut_is_counted(folder):
    cut = int((folder / "truncated").read_text())
    assert cut >= 3
    for _ in range(2):  # the second time all are stored
        said = run(*embed("odd.npz", store="odd"), cwd=folder).stdout
        assert f"{cut} texts are longer than the encoder's 64 tokens" in said
    one = np.load(folder / "one.npz")
    assert np.isfinite(one["embeddings"]).all()
    assert len(np.unique(one["embeddings"][: len(ODD)], axis=0)) == len(ODD)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"id": "z", "text": ""}', "'text' must be a text that is not empty"),
        (b'{"id": "z", "text": " \\n\\t"}', "'text' must be a text that is not empty"),
        (b'{"id": "z", "text": "a\\u0000b"}', "NUL"),
        (b'{"id": "z", "text": "\\ud83d"}', "half a surrogate pair"),
        (b'{"id": "z", "text": "caf\xe9"}', "is not UTF-8"),
        (b'{"id": "i3", "text": "x"}', "id 'i3' is used before"),
        (b'{"id": "z", "text": "x"', "is not JSON"),
    ],
)
@pytest.mark.parametrize("output", ["bad.npz", "bad"])
def test_a_line_that_cannot_be_encoded_is_named_before_any_work(folder, line, said, output):
    content = (folder / "texts.jsonl").read_bytes()
    (folder / "bad.jsonl").write_bytes(content + line + b"\n")
    options = embed(output, "--input", "bad.jsonl", store="unused")
    result = run(*options, cwd=folder, expect=2)
    last = len(content.splitlines()) + 1
    assert f"bad.jsonl:{last}: " in result.stderr
    assert said in result.stderr
    assert not list((folder / "unused").glob("*/vectors*"))


@pytest.mark.parametrize("size", ["1", "7", "1000"])
def test_shards_of_any_size_hold_what_one_file_holds(folder, size):
    result = run(*embed(f"by-{size}", "--shard-size", size), cwd=folder)
    assert f"100 texts, 10 dimensions, {-(-100 // int(size))} shards" in result.stdout
    assert_like_one_file(folder, f"by-{size}")


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_two_processes_write_what_one_writes(folder, strategy):
    options = ["--trainer.devices", "2", "--trainer.accelerator", "cpu"]
    name = f"two-{strategy}"
    result = run(
        *embed(name, "--shard-size", "9", *options, "--trainer.strategy", strategy, store=name),
        cwd=folder,
    )
    assert_like_one_file(folder, name)
    assert result.stdout.count("12 shards -> ") == 1, "said once"
    cut = (folder / "truncated").read_text()
    assert f"\n{cut} texts are longer than the encoder's 64 tokens" in result.stdout
    assert "warning" not in result.stderr.lower(), "Lightning has nothing to say"


def test_a_killed_run_goes_on_where_it_was(folder):
    command = embed("killed", "--shard-size", "2", store="killed-store")
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "subspace", *command],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        before, deadline = len(list((folder / "killed").glob("*.npy"))), time.monotonic() + 60
        while len(list((folder / "killed").glob("*.npy"))) == before:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert EmbeddingShards.open(folder / "killed").missing(), "in the middle of its work"
    done = {path: path.stat().st_mtime_ns for path in (folder / "killed").glob("*.npy")}
    run(*command, cwd=folder)
    assert_like_one_file(folder, "killed")
    for path, written in done.items():
        assert path.stat().st_mtime_ns == written, "what was done is not done again"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["one.npz", "--trainer.devices", "2"], "needs a folder as --output"),
        (["some.csv"], r"must end in .npz or be a folder"),
        (["s", "--shard-size", "0"], "--shard-size must be 1 or more"),
        (["s", "--trainer.accelerator", "abacus"], "--trainer: "),
        (["s", "--trainer.devices", "none"], "--trainer: "),
        (["K"], "holds something else"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, options, said):
    stderr = run(*embed(*options), cwd=folder, expect=2).stderr
    assert said in stderr
    assert "Traceback" not in stderr


def test_another_dtype_is_taken_when_asked_for_and_stays_close(folder):
    run(*embed("half.npz", "--encoder-dtype", "bfloat16"), cwd=folder)
    one, half = (np.load(folder / name)["embeddings"] for name in ("one.npz", "half.npz"))
    assert not np.array_equal(one, half)
    assert (one * half).sum(axis=1).min() > 0.99 * 2  # two blocks of unit length


def test_what_was_cut_is_said_also_where_vectors_were_stored(folder):
    cut = (folder / "truncated").read_text()
    for name in ("first", "second"):
        out = run(*embed(name, store="shared"), cwd=folder).stdout
        assert f"\n{cut} texts are longer than the encoder's 64 tokens" in out


def test_more_processes_than_shards_is_no_crash(folder):
    options = [
        "--trainer.devices",
        "3",
        "--trainer.accelerator",
        "cpu",
        "--trainer.strategy",
        "ddp",
    ]
    run(*embed("few", "--shard-size", "60", *options), cwd=folder)
    assert_like_one_file(folder, "few")


def test_an_index_is_made_of_shards_without_the_encoder(folder):
    run(*embed("whole", "--shard-size", "30"), cwd=folder)
    common = ["--checkpoint", "K", "--input", "texts.jsonl"]
    run("index", *common, "--shards", "whole", "--output", "of-shards", "--store", "x", cwd=folder)
    run("index", *common, "--output", "of-texts", "--store", "store", cwd=folder)
    assert not (folder / "x").exists()
    hits = [
        run("search", "--checkpoint", "K", "--index", name, "--like", "i20", "--json", cwd=folder)
        for name in ("of-shards", "of-texts")
    ]
    found, wanted = ([hit["id"] for hit in json.loads(one.stdout)["hits"]] for one in hits)
    assert found == wanted
    said = run(
        "search", "--checkpoint", "K", "--index", "whole", "--query", "x", cwd=folder, expect=2
    )
    assert "holds shards of `subspace embed`, not an index" in said.stderr


def test_shards_of_queries_or_of_another_checkpoint_make_no_index(folder):
    run(*embed("asked", "--queries"), cwd=folder)
    result = run(
        *("index", "--checkpoint", "K", "--input", "texts.jsonl"),
        *("--shards", "asked", "--output", "no-index"),
        cwd=folder,
        expect=2,
    )
    assert "are of queries" in result.stderr
    assert not (folder / "no-index").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoder-dtype", "bfloat16"], "another --encoder-dtype"),
        (["--queries"], "another choice of --queries"),
        (["--shard-size", "51"], "another content of --input or --shard-size"),
    ],
)
def test_a_folder_is_gone_on_with_as_it_was_begun(folder, options, said):
    run(*embed("begun", "--shard-size", "50"), cwd=folder)
    command = embed("begun", *([] if "--shard-size" in options else ["--shard-size", "50"]))
    assert said in run(*command, *options, cwd=folder, expect=2).stderr
