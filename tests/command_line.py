"""Runs commands in this process, as a shell would: in a folder, with output and exit code."""

import atexit
import contextlib
import functools
import io
import json
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from subspace.cli import main

ROOT = Path(__file__).resolve().parents[1]
TOPICS = ("astronomy", "gardening")
# Two fifths of the scenes of these topics, of all three splits: there is less to encode.
FEW_SCENES = (
    *("astronomy-planet", "astronomy-mirror", "astronomy-dark-sky", "astronomy-comet"),
    *("gardening-seeds", "gardening-slugs", "gardening-compost", "gardening-roses"),
)


@dataclass(frozen=True)
class Output:
    """What a command printed."""

    stdout: str
    stderr: str


def run(*arguments: str | Path, cwd: Path, expect: int = 0) -> Output:
    """Runs `subspace` with these arguments in a folder; fails unless it exits as expected."""
    out, err = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(err)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    offline = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            # Lightning's own use of names that torch and jsonargparse have deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                code = main(list(map(str, arguments)))
            except SystemExit as stop:  # how argparse ends after --help and wrong options
                code = stop.code
    finally:
        logging.getLogger().removeHandler(handler)
        if offline is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = offline
    assert (code or 0) == expect, err.getvalue()[-3000:]
    return Output(out.getvalue(), err.getvalue())


@functools.cache
def shared_store() -> Path:
    """A store of embeddings for all folders below, so that a process encodes their texts once."""
    folder = Path(tempfile.mkdtemp(prefix="subspace-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def lay_out_project(folder: Path, *, scenes: Collection[str] = ()) -> None:
    """Makes a folder in which examples run: `configs`, and two of the eight topics of `data`.

    Args:
        folder: Where to; it is there and empty.
        scenes: The scenes (`group`) of these topics; all of them if none is given.
    """
    (folder / "runs").mkdir()
    (folder / "runs" / "embeddings").symlink_to(shared_store())
    (folder / "configs").symlink_to(ROOT / "configs")
    corpus = ROOT / "data/factorial/records.jsonl"
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    named = [(line, json.loads(line)["group"]) for line in lines]
    kept = [
        line
        for line, scene in named
        if scene.partition("-")[0] in TOPICS and (not scenes or scene in scenes)
    ]
    (folder / "data/factorial").mkdir(parents=True)
    (folder / "data/factorial/records.jsonl").write_text("".join(kept), encoding="utf-8")


def tiny(labelled_folder: Path, tiny_qwen: Path) -> list[str]:
    """What makes any shipped configuration run in seconds, on a tiny real encoder."""
    return [
        f"--data.sources=[{labelled_folder}]",
        f"--data.encoder.model={tiny_qwen}",
        "--data.encoder.revision=null",
        "--data.encoder.layers=[1,2]",
        "--data.encoder.max_length=64",
        "--data.encoder.dtype=float32",
        "--model.blocks={topic: 6, style: 4, complexity: 4, specificity: 4}",
        "--data.steps_per_epoch=3",
        "--data.batch_size=32",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
    ]
