"""`subspace project` gives stored embeddings the blocks that encoding again would give."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import model_of, with_queries

from subspace.blocks import BlockLayout
from subspace.cli import main
from subspace.encoder import Encoder, EncoderSpec
from subspace.model import Model
from subspace.model.project_vectors import project_in_pieces

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "match": 4})
TEXTS = [f"The {animal} saw {number} birds." for animal in ("cat", "dog") for number in range(20)]


@pytest.fixture(scope="module")
def encoder(tiny_qwen) -> Encoder:
    return Encoder(EncoderSpec(model=str(tiny_qwen), layers=(0, 1, 2), max_length=64))


@pytest.fixture(scope="module")
def model(encoder) -> Model:
    return with_queries(model_of(encoder, widths=LAYOUT.to_widths()))


@pytest.fixture(scope="module")
def embeddings(encoder) -> np.ndarray:
    return encoder.encode(TEXTS)


@pytest.fixture
def folder(model, tmp_path, monkeypatch) -> Path:
    """Where a checkpoint `K` and embeddings `x.npy` lie."""
    monkeypatch.chdir(tmp_path)
    model.save("K")
    return tmp_path


def project(*options: str, expect: int = 0, given: str = "x.npy") -> np.ndarray | None:
    arguments = ["project", "--checkpoint", "K", "--input", given, "--output", "z.npy", *options]
    assert main(arguments) == expect
    return None if expect else np.load("z.npy")


def test_stored_embeddings_get_the_blocks_of_their_texts(folder, embeddings, model):
    lines = [json.dumps({"id": str(n), "text": text}) for n, text in enumerate(TEXTS)]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    embed = ["--checkpoint", "K", "--input", "texts.jsonl", "--output", "z.npz", "--store", "store"]
    assert main(["embed", *embed]) == 0
    np.save("x.npy", embeddings)
    z = project()
    assert z.dtype == np.float32
    with np.load("z.npz") as encoded:
        np.testing.assert_allclose(z, encoded["embeddings"], atol=1e-5)
    beside = json.loads((folder / "z.json").read_text())
    assert beside == {
        "layout": LAYOUT.to_widths(),
        "rows": len(TEXTS),
        "side": "documents",
        "projection": model.projection.digest,
    }
    assert sorted(path.name for path in folder.glob("*z.*")) == ["z.json", "z.npy", "z.npz"]


def test_queries_are_projected_with_what_is_theirs(folder, embeddings, model):
    np.save("x.npy", embeddings)
    documents, queries = project(), project("--queries")
    np.testing.assert_allclose(queries, model.projection.queries(embeddings), atol=1e-5)
    assert not np.allclose(documents, queries)
    assert json.loads((folder / "z.json").read_text())["side"] == "queries"


def test_named_blocks_are_those_of_all_in_the_order_asked_for(folder, embeddings):
    np.save("x.npy", embeddings)
    parts = LAYOUT.split(project())
    np.testing.assert_array_equal(
        project("--blocks", "match, topic"),
        np.concatenate([parts["match"], parts["topic"]], axis=1),
    )
    layout = json.loads((folder / "z.json").read_text())["layout"]
    assert list(layout.items()) == [("match", 4), ("topic", 5)]


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_float_and_order_of_memory_is_read(kind, order, folder, embeddings, caplog):
    np.save("x.npy", embeddings)
    expected = project()
    np.save("x.npy", np.asarray(embeddings.astype(kind), order=order))
    np.testing.assert_allclose(project(), expected, atol=5e-3 if kind == "<f2" else 1e-5)
    assert "unit length" not in caplog.text, "rounding to float16 is no other length"


def test_lengths_of_layers_do_not_matter_and_are_said(folder, embeddings, model, caplog):
    """The counter-check: projected as they are, they have other blocks."""
    np.save("x.npy", embeddings)
    expected = project()
    lengths = np.random.default_rng(1).uniform(0.2, 9, (len(TEXTS), 3)).astype(np.float32)
    longer = (embeddings.reshape(len(TEXTS), 3, -1) * lengths[:, :, None]).reshape(len(TEXTS), -1)
    np.save("x.npy", longer)
    assert "unit length" not in caplog.text
    np.testing.assert_allclose(project(), expected, atol=1e-4)
    count = len(TEXTS)
    assert f"{count} of {count} embeddings of x.npy were not of unit length" in caplog.text
    assert np.abs(model.projection(longer) - expected).max() > 0.1


def test_rows_of_no_direction_are_named_and_nothing_is_written(folder, embeddings, capsys):
    broken = embeddings.astype(np.float64)
    broken[3, 0] = np.nan
    broken[7, 1] = 1e300  # beyond float32
    broken[31, :32] = 0  # one layer
    np.save("x.npy", broken)
    project(expect=2)
    assert "x.npy: 3 of 40 rows hold NaN" in (said := capsys.readouterr().err)
    assert said.rstrip().endswith(": 3, 7, 31")
    np.save("x.npy", np.full_like(embeddings, np.nan))
    project(expect=2)
    assert "40 of 40" in (said := capsys.readouterr().err)
    assert said.rstrip().endswith("8, 9, ...")
    assert not list(folder.glob("*z.*"))


def test_the_encoder_recorded_beside_is_checked(folder, embeddings, encoder, caplog, capsys):
    np.save("x.npy", embeddings)
    project()
    assert "the encoder of x.npy is not recorded" in caplog.text
    caplog.clear()
    beside = folder / "x.json"
    beside.write_text(json.dumps({"fingerprint": encoder.fingerprint.to_json()}))
    project()
    assert "not recorded" not in caplog.text
    other = replace(encoder.fingerprint, pooling="mean")
    beside.write_text(json.dumps({"fingerprint": other.to_json()}))
    project(expect=2)
    assert "made for another encoder: it wants pooling: 'lasttoken', not 'mean'" in (
        capsys.readouterr().err
    )
    beside.write_text(json.dumps({"fingerprint": {"model": "x"}}))
    project(expect=2)
    assert "x.json: an encoder fingerprint must have exactly" in capsys.readouterr().err
    beside.write_text('["ids", "of", "rows"]')  # somebody's own file of that name
    project()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 32), np.float32), "has 32 dimensions, the checkpoint takes 96"),
        (np.zeros(96, np.float32), "holds float32 of shape (96,)"),
        (np.zeros((4, 96), np.int8), "holds int8"),
        (np.zeros((0, 96), np.float32), "holds no embeddings"),
        (np.array([{"a": 1}]), "cannot read x.npy"),
    ],
    ids=["dimensions", "one row", "quantised", "empty", "objects"],
)
def test_an_array_that_cannot_be_is_one_sentence(array, message, folder, capsys):
    np.save("x.npy", array, allow_pickle=True)
    project(expect=2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--output", "z.npz"], "--output must end in .npy"),
        (["--output", "x.npy"], "is the file of --input too, which would be lost"),
        (["--output", "K/config.npy"], "K/config.json, where the layout goes, was not written"),
        (["--output", "mine.npy"], "mine.npy was not written by this command"),
        (["--input", "zip.npy"], "cannot read zip.npy"),
        (["--blocks", "mood"], "no block 'mood'"),
        (["--blocks", "topic,topic"], "must differ"),
        (["--blocks", ""], "no block ''"),
        (["--input", "nowhere.npy"], "cannot read nowhere.npy"),
        (["--input", "x.npz"], "is an archive"),
        (["--input", "cut.npy"], "cannot read cut.npy"),
        (["--input", "K"], "K is a folder"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_writes_nothing(
    options, message, folder, embeddings, capsys
):
    np.save("x.npy", embeddings)
    np.savez("x.npz", embeddings)
    (folder / "cut.npy").write_bytes((folder / "x.npy").read_bytes()[:-5])
    (folder / "zip.npy").write_bytes(b"PK\x03\x04 and no archive")
    np.save("mine.npy", embeddings)
    before = sorted(folder.rglob("*"))
    project(*options, expect=2)
    assert message in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


# Runs the command twice in a process of its own, and says its greatest memory after each.
MEASURE = """
import resource, sys
from subspace.cli import main

for name in ("small.npy", "x.npy"):
    options = ["--checkpoint", "K", "--input", name, "--output", "z.npy", "--blocks", "style"]
    assert main(["project", *options]) == 0
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_file(embeddings, folder):
    np.save("small.npy", embeddings)
    rows, width = 500_000, embeddings.shape[1]
    big = np.lib.format.open_memmap("x.npy", "w+", embeddings.dtype, (rows, width))
    for start in range(0, rows, len(embeddings)):
        big[start : start + len(embeddings)] = embeddings
    big.flush()
    assert big.nbytes > 190e6
    result = subprocess.run(
        [sys.executable, "-c", MEASURE], text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    before, after = (1024 * int(line) for line in result.stdout.splitlines() if line.isdigit())
    assert after - before < 60e6
    z = np.load("z.npy", mmap_mode="r")
    assert z.shape == (rows, 3)
    np.testing.assert_allclose(z[-len(embeddings) :], z[: len(embeddings)], atol=1e-6)


def test_interrupted_or_out_of_space_it_leaves_what_was_there(
    embeddings, folder, monkeypatch, capsys
):
    np.save("x.npy", embeddings)
    (folder / "z.npy").write_bytes(b"before")
    (folder / "z.json").write_text('{"layout": {}, "projection": ""}')
    monkeypatch.setattr("subspace.model.project_vectors._CHUNK", 8 * embeddings.shape[1])
    pieces, whole, resource = [], Model.project, pytest.importorskip("resource")

    def interrupt(self, vectors, *, kind):
        if pieces:
            raise KeyboardInterrupt
        pieces.append(vectors)
        return whole(self, vectors, kind=kind)

    with monkeypatch.context() as patch:
        patch.setattr(Model, "project", interrupt)
        project(expect=130)
    assert len(pieces[0]) == 8
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        project(expect=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write z.npy" in capsys.readouterr().err
    assert (folder / "z.npy").read_bytes() == b"before"
    assert (folder / "z.json").read_text() == '{"layout": {}, "projection": ""}'
    assert sorted(path.name for path in folder.glob("*z.*")) == ["z.json", "z.npy"]


def test_pieces_are_the_whole_and_what_may_be_written_to_is_kept(
    folder, embeddings, model, monkeypatch
):
    """Forgetting the pages of a private mapping would undo what was changed in it."""
    monkeypatch.setattr("subspace.model.project_vectors._CHUNK", 8 * embeddings.shape[1])
    np.save("x.npy", np.zeros_like(embeddings))
    private = np.load("x.npy", mmap_mode="c")
    private[:] = embeddings
    for vectors in (embeddings, private):
        pieces = [piece.array for piece in project_in_pieces(vectors, model=model)]
        assert [len(piece) for piece in pieces] == [8] * 5
        wanted = model.project(embeddings).array
        np.testing.assert_allclose(np.concatenate(pieces), wanted, atol=1e-6)
    np.testing.assert_array_equal(private, embeddings)
