"""`subspace embed`: one file or shards, one process or several, killed or not, the same blocks."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from models import model_of

from subspace.cli import main
from subspace.encoder import Encoder, EncoderSpec
from subspace.model.embedding_shards import EmbeddingShards

ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "default",
}
# What texts may hold: long ones, right to left, emoji, what is not composed, other lines' ends.
ODD = [
    "x",
    "שלום עולם, ככה כותבים",
    "👩‍👩‍👧‍👦🏳️‍🌈" * 20,
    "e\u0301 \u200b\u2028\u0085",
    "word " * 40_000,  # 200 kB
    "\ufffd\uffff\U0010ffff",
    "a" * 5000,
]


@pytest.fixture(scope="module")
def place(tiny_qwen, tmp_path_factory) -> Path:
    """A folder with a checkpoint for the tiny encoder, a hundred texts, and the last six of them.

    The blocks of both are in a file each.
    """
    place = tmp_path_factory.mktemp("embed")
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=64))
    model_of(encoder, widths={"topic": 6, "style": 4}).save(place / "K")
    texts = [*ODD, *(f"text number {n} " * (n % 9 + 1) for n in range(93))]
    (place / "texts.jsonl").write_text(
        "".join(json.dumps({"id": f"i{n}", "text": text}) + "\n" for n, text in enumerate(texts))
    )
    lines = (place / "texts.jsonl").read_text().splitlines()
    (place / "few.jsonl").write_text("\n".join(lines[-6:]))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main(embed("one.npz")) == 0
        assert main(embed("few.npz", "--input", "few.jsonl")) == 0
    encoder.encode(texts)
    (place / "truncated").write_text(str(encoder.truncated))
    return place


@pytest.fixture
def folder(place, monkeypatch) -> Path:
    """The same folder, to work in."""
    monkeypatch.chdir(place)
    return place


def embed(output: str, *options: str, store: str = "store") -> list[str]:
    common = ["--checkpoint", "K", "--input", "texts.jsonl", "--store", store]
    return ["embed", *common, "--output", output, *options]


def run(*command: str, expect: int = 0) -> None:
    """Runs a command in this process; what it says is captured."""
    assert main(command) == expect


def read(path: Path) -> tuple[list[str], np.ndarray]:
    ids, parts = zip(*EmbeddingShards.open(path).shards(), strict=True)
    return [one for part in ids for one in part], np.concatenate(parts)


def assert_like_one_file(folder: Path, name: str) -> None:
    ids, found = read(folder / name)
    one = np.load(folder / "one.npz")
    assert ids == one["ids"].tolist()
    np.testing.assert_allclose(found, one["embeddings"], atol=1e-5)


def test_odd_texts_have_vectors_of_their_own(folder):
    one = np.load(folder / "one.npz")
    assert np.isfinite(one["embeddings"]).all()
    assert len(np.unique(one["embeddings"][: len(ODD)], axis=0)) == len(ODD)


def test_what_was_cut_is_counted_also_where_vectors_were_stored(folder, capsys):
    cut = int((folder / "truncated").read_text())
    count = len((folder / "texts.jsonl").read_text().splitlines())
    assert cut >= 3
    for output in ("odd.npz", "odd", "odd"):  # the second time all are stored, the third all done
        run(*embed(output, store="odd-store"))
        said = f"\n{cut} of {count} texts are longer than the encoder's 64 tokens"
        out = capsys.readouterr().out
        assert said in out
        assert re.search(r"what is beyond was not read \(\d+% of them\)", out)


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
def test_a_line_that_cannot_be_encoded_is_named_before_any_work(folder, line, said, output, capsys):
    content = (folder / "texts.jsonl").read_bytes()
    (folder / "bad.jsonl").write_bytes(content + line + b"\n")
    run(*embed(output, "--input", "bad.jsonl", store="unused"), expect=2)
    err = capsys.readouterr().err
    last = len(content.splitlines()) + 1
    assert f"bad.jsonl:{last}: " in err
    assert said in err
    assert not list((folder / "unused").glob("*/vectors*"))


@pytest.mark.parametrize("size", ["1", "7", "1000"])
def test_shards_of_any_size_hold_what_one_file_holds(folder, size, capsys):
    run(*embed(f"by-{size}", "--shard-size", size))
    shards = -(-100 // int(size))
    said = f"100 texts, 10 dimensions, {shards} shard{'s' if shards > 1 else ''} -> "
    assert said in capsys.readouterr().out
    assert_like_one_file(folder, f"by-{size}")


# Both processes run this; the second takes a quarter of a second longer for every shard.
LATE = """
import os, sys, time
from subspace.cli import main
from subspace.model.embedding_shards import EmbeddingShards

write = EmbeddingShards.write

def write_late(*arguments, **options):
    if os.environ.get("LOCAL_RANK") == "1":
        time.sleep(0.25)
    write(*arguments, **options)

EmbeddingShards.write = write_late
sys.exit(main())
"""


PROCESSOR = ["--trainer.accelerator", "cpu"]


def test_two_processes_write_what_one_writes_and_the_first_waits_for_the_second(folder):
    """Without waiting, "6 of 12 shards are not done" is what it ends with."""
    several = ["--trainer.devices", "2", *PROCESSOR, "--trainer.strategy", "ddp"]
    command = embed("two", "--shard-size", "9", *several, store="two-store")
    (folder / "late.py").write_text(LATE)
    # In a process of its own: the second is started as the first was.
    result = subprocess.run(
        [sys.executable, "late.py", *command],
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "warning" not in result.stderr.lower(), "Lightning has nothing to say"
    assert_like_one_file(folder, "two")
    assert result.stdout.count("12 shards -> ") == 1, "said once"
    cut = (folder / "truncated").read_text()
    assert f"\n{cut} of 100 texts are longer than the encoder's 64 tokens" in result.stdout


def test_more_processes_than_shards_is_no_crash_and_half_precision_is_said_once(
    folder, monkeypatch, capfd
):
    several = ["--trainer.devices", "2", *PROCESSOR, "--trainer.strategy", "ddp_spawn"]
    options = ["--input", "few.jsonl", *several, "--encoder-dtype", "auto"]
    monkeypatch.setenv("MASTER_PORT", "0")  # the launcher sets it: that is undone with this
    monkeypatch.delenv("MASTER_PORT")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)  # of the processes that are started
    run(*embed("few", *options, store="few-store"))
    said = capfd.readouterr()
    assert "warning" not in said.err.lower(), "Lightning has nothing to say"
    ids, found = read(folder / "few")
    with np.load("few.npz") as one:
        assert ids == one["ids"].tolist()
        assert (found * one["embeddings"]).sum(axis=1).min() > 0.99 * 2  # two unit blocks
    assert said.out.count("the encoder computes in ") == 1
    assert said.out.count("1 shard -> ") == 1
    assert "Predicting" not in said.out, "bars are for terminals"


def test_a_killed_run_goes_on_where_it_was(folder, monkeypatch):
    command = embed("killed", "--shard-size", "1", store="killed-store")
    process = subprocess.Popen(
        [sys.executable, "-m", "subspace", *command],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((folder / "killed").glob("*.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert EmbeddingShards.open(folder / "killed").missing(), "in the middle of its work"
    done = {path: path.stat().st_mtime_ns for path in (folder / "killed").glob("*.npy")}
    # Interrupted once more, by hand, in the middle of a shard.
    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingShards, "write", interrupt)
        run(*command, expect=130)
    run(*command)
    assert_like_one_file(folder, "killed")
    for path, written in done.items():
        assert path.stat().st_mtime_ns == written, "what was done is not done again"


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["one.npz", "--trainer.devices", "2"], "needs a folder as --output"),
        (["some.csv"], r"must end in .npz or be a folder"),
        (["s", "--shard-size", "0"], "--shard-size must be 1 or more"),
        (["s", "--trainer.accelerator", "abacus"], "--trainer: "),
        (["s", "--trainer.devices", "none"], "--trainer: "),
        (["K"], "holds something else"),
        (["s", "--encoder", "minilm"], "the checkpoint was made for another encoder"),
        (["one.npz/below"], "cannot write to one.npz"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(folder, options, said, capsys):
    run(*embed(*options), expect=2)
    err = capsys.readouterr().err
    assert said in err
    assert len(err.rpartition("subspace: ")[2].splitlines()) == 1


def test_a_full_disk_leaves_the_file_that_was_there(folder, capsys):
    resource = pytest.importorskip("resource")
    (folder / "full.npz").write_bytes(b"mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        run(*embed("full.npz", "--input", "few.jsonl"), expect=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write full.npz" in capsys.readouterr().err
    assert (folder / "full.npz").read_bytes() == b"mine"
    assert not list(folder.glob(".*.partial"))


def test_another_dtype_is_taken_when_asked_for_and_stays_close(folder):
    run(*embed("half.npz", "--input", "few.jsonl", "--encoder-dtype", "bfloat16"))
    one, half = (np.load(folder / name)["embeddings"] for name in ("few.npz", "half.npz"))
    assert not np.array_equal(one, half)
    assert (one * half).sum(axis=1).min() > 0.99 * 2  # two blocks of unit length


def test_an_index_is_made_of_shards_without_the_encoder(folder, capsys):
    run(*embed("whole", "--shard-size", "30"))
    common = ["--checkpoint", "K", "--input", "texts.jsonl"]
    run("index", *common, "--shards", "whole", "--output", "of-shards", "--store", "x")
    run("index", *common, "--output", "of-texts", "--store", "store")
    assert not (folder / "x").exists()
    hits, made = [], ("of-shards", "of-texts")
    for name in made:
        capsys.readouterr()
        run("search", "--checkpoint", "K", "--index", name, "--like", "i20", "--json")
        hits.append([hit["id"] for hit in json.loads(capsys.readouterr().out)["hits"]])
    assert hits[0] == hits[1]
    centres = [json.loads((folder / name / "manifest.json").read_text())["centre"] for name in made]
    assert centres[0] is None  # shards hold blocks, which cannot be centred any more
    assert centres[1] is not None
    run("search", "--checkpoint", "K", "--index", "whole", "--query", "x", expect=2)
    assert "holds shards of `subspace embed`, not an index" in capsys.readouterr().err


def test_shards_of_queries_or_of_another_checkpoint_make_no_index(folder, capsys):
    run(*embed("asked", "--input", "few.jsonl", "--queries"))
    run(
        *("index", "--checkpoint", "K", "--input", "few.jsonl"),
        *("--shards", "asked", "--output", "no-index"),
        expect=2,
    )
    assert "are of queries" in capsys.readouterr().err
    assert not (folder / "no-index").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoder-dtype", "bfloat16"], "another --encoder-dtype"),
        (["--queries"], "another choice of --queries"),
        (["--shard-size", "4"], "another content of --input or --shard-size"),
        (["--input", "texts.jsonl"], "another content of --input or --shard-size"),
    ],
)
def test_a_folder_is_gone_on_with_as_it_was_begun(folder, options, said, capsys):
    command = embed("begun", "--input", "few.jsonl", "--shard-size", "3")
    run(*command)
    run(*command, *options, expect=2)
    assert said in capsys.readouterr().err
