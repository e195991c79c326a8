"""Processes that write, read and are killed at random moments, on everything that is kept on disk.

    python benchmarks/stress.py --seconds 60

For each of an index (opened again and again, or followed by `refresh`), a usage log, a bandit, an
embedding store, shards and a checkpoint: writers that say what they have written after each call
has returned, a reader that opens and reads all of it, and kills (SIGKILL) of writers, each followed
by a new one. At the end, everything that was said must be there, no reader may have met an error,
and after one more write nothing may be left over.
Exits with 1 if something was lost.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subspace.blocks import BlockLayout
from subspace.data.document_file import DocumentFile
from subspace.data.records import Record
from subspace.encoder.embedding_store import EmbeddingStore
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.spec import EncoderSpec
from subspace.model import Model, Projection, load
from subspace.model.embedding_shards import EmbeddingShards
from subspace.retrieval import UsageLog
from subspace.retrieval.engines import Engine, create_engine, folder_engine, open_engine
from subspace.retrieval.usage.bandit import WeightBandit

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})
# Vectors that a store holds, and texts of a shard.
DIM, TEXTS = 16, 3
FINGERPRINT = Fingerprint("m", "r", "mean", "", "", (1,), 8, True, "float32", DIM)

Write = Callable[[str], object]


def vector_of(name: str, dim: int = LAYOUT.dim) -> np.ndarray:
    """The vector that belongs to a name: who reads it knows whether it is whole."""
    seed = [ord(letter) for letter in name]
    return np.random.default_rng(seed).normal(size=(1, dim)).astype(np.float32)


@dataclass(frozen=True)
class Kind:
    """One thing that is kept on disk.

    Attributes:
        begin: Makes it.
        writer: Opens it, and returns a function that writes one name.
        read: Opens it, checks all that it holds, and returns the names in it.
        leftovers: Returns files that nobody needs.
    """

    begin: Callable[[Path], None]
    writer: Callable[[Path], Write]
    read: Callable[[Path], set[str]]
    leftovers: Callable[[Path], list[str]]


def nothing(folder: Path) -> list[str]:  # noqa: ARG001
    return []


def begin_index(folder: Path) -> None:
    create_engine(folder / "index", layout=LAYOUT, projection_digest="0" * 64).save()


def write_index(folder: Path) -> Write:
    folder_engine._CHANGES = 40  # all is written whole often enough to be met by kills
    engine = open_engine(folder / "index")

    def write(name: str) -> None:
        engine.upsert([Record(id=name, text=f"text of {name}")], vector_of(name))
        engine.save()

    return write


def read_index(folder: Path) -> set[str]:
    return names_in(open_engine(folder / "index"))


FOLLOWED: dict[Path, Engine] = {}


def follow_index(folder: Path) -> set[str]:
    """Keeps it open, and takes up what was saved since."""
    if folder not in FOLLOWED:
        FOLLOWED[folder] = open_engine(folder / "index")
    FOLLOWED[folder].refresh()
    return names_in(FOLLOWED[folder])


def names_in(engine: Engine) -> set[str]:
    found = engine.sample(10**6)
    for document, vector in zip(found.documents, found.vectors, strict=True):
        np.testing.assert_array_equal(vector, vector_of(document.id)[0])
    return {document.id for document in found.documents}


def index_leftovers(folder: Path) -> list[str]:
    files = sorted(path.name for path in (folder / "index").iterdir() if path.name != ".lock")
    beside = [path.name for path in folder.iterdir() if path.name.startswith(".index")]
    return beside + (files if len(files) != 4 else [])


def write_log(folder: Path) -> Write:
    log = UsageLog.open(folder / "usage.db")

    def write(name: str) -> None:
        log.add([(name, 1.0)])

    return write


def read_log(folder: Path) -> set[str]:
    with UsageLog.open(folder / "usage.db") as log:
        return {use.item for _, use in log.since()}


def write_bandit(folder: Path) -> Write:
    """Each writer has rewards of an arm of its own: their number is what is counted."""
    bandit = WeightBandit(folder / "arms.db", arms=["balanced", "exploration"], discount=0.5)
    log = UsageLog.open(folder / "rewards.db")

    def write(name: str) -> None:
        bandit.update("balanced", 1.0)
        log.add([(name, 1.0)])

    return write


def read_bandit(folder: Path) -> set[str]:
    with UsageLog.open(folder / "rewards.db") as log:
        names = {use.item for _, use in log.since()}
    bandit = WeightBandit(folder / "arms.db", arms=["balanced", "exploration"])
    row = bandit.connection.execute("SELECT pulls FROM bandit_arms WHERE arm_id = 'balanced'")
    pulls = int(row.fetchone()[0])
    bandit.close()
    if pulls < len(names):
        raise AssertionError(f"{len(names)} rewards were said, {pulls} are there")
    return names


def open_store(folder: Path) -> EmbeddingStore:
    return EmbeddingStore.open(
        folder / "store",
        digest=FINGERPRINT.digest,
        fingerprint=FINGERPRINT.to_json(),
        dim=DIM,
    )


def write_store(folder: Path) -> Write:
    store = open_store(folder)
    return lambda name: store.append([name], vector_of(name, DIM))


def read_store(folder: Path) -> set[str]:
    said = read_names(folder, "store")
    store = open_store(folder)
    there = [name for name, row in zip(said, store.find(said), strict=True) if row >= 0]
    for name, vector in zip(there, store.read(store.find(there)), strict=True):
        np.testing.assert_array_equal(vector, vector_of(name, DIM)[0])
    return set(there)


def read_names(folder: Path, kind: str) -> list[str]:
    names = [path.read_text().split() for path in folder.glob(f"said-{kind}-*")]
    return [name for some in names for name in some]


def begin_shards(folder: Path) -> None:
    lines = (f'{{"id": "{n}", "text": "text {n}"}}\n' for n in range(2000 * TEXTS))
    (folder / "texts.jsonl").write_text("".join(lines))
    open_shards(folder)


def open_shards(folder: Path) -> EmbeddingShards:
    source = DocumentFile.scan(folder / "texts.jsonl", texts_per_part=TEXTS)
    return EmbeddingShards.create(
        folder / "shards", layout=LAYOUT, source=source, projection_digest="p"
    )


def write_shards(folder: Path) -> Write:
    """Writers take any shard, so that two may write one at once."""
    shards, drawn = open_shards(folder), random.Random(os.getpid())

    def write(name: str) -> None:  # noqa: ARG001
        number = drawn.randrange(len(shards))
        ids = [document.id for document in shards.source.read(number)]
        shards.write(number, ids=ids, embeddings=np.full((TEXTS, LAYOUT.dim), number, np.float32))

    return write


def read_shards(folder: Path) -> set[str]:
    shards = EmbeddingShards.open(folder / "shards")
    done = set(range(len(shards))) - set(shards.missing())
    for number in random.sample(sorted(done), min(20, len(done))):
        found = np.load(shards.folder / f"{number:05}.npy", allow_pickle=False)
        np.testing.assert_array_equal(found, np.full((TEXTS, LAYOUT.dim), number))
    return set(read_names(folder, "shards"))


def shard_leftovers(folder: Path) -> list[str]:
    open_shards(folder)
    return [path.name for path in (folder / "shards").iterdir() if path.name.endswith(".partial")]


def write_checkpoint(folder: Path) -> Write:
    def write(name: str) -> None:
        weight = np.repeat(vector_of(name, DIM), LAYOUT.dim, axis=0)
        projection = Projection(weight=weight, mean=np.zeros(DIM, np.float32), layout=LAYOUT)
        spec = EncoderSpec.from_fingerprint(FINGERPRINT, model="m")
        Model(
            projection=projection,
            encoder=spec,
            fingerprint=FINGERPRINT,
            recipe={"name": name},
        ).save(folder / "checkpoint")

    return write


def begin_checkpoint(folder: Path) -> None:
    write_checkpoint(folder)("first")


def read_checkpoint(folder: Path) -> set[str]:
    """One checkpoint is there, whole; the last that was said, or one that was being written."""
    model = load(folder / "checkpoint")
    name = str(model.recipe["name"])
    np.testing.assert_array_equal(model.projection.weight[:1], vector_of(name, DIM))
    return set(read_names(folder, "checkpoint"))


def checkpoint_leftovers(folder: Path) -> list[str]:
    wanted = {"config.json", "model.safetensors", ".lock"}
    return sorted({path.name for path in (folder / "checkpoint").iterdir()} - wanted)


def begin_nothing(folder: Path) -> None:
    """What is made by whoever opens it first."""


KINDS = {
    "index": Kind(begin_index, write_index, read_index, index_leftovers),
    "refresh": Kind(begin_index, write_index, follow_index, index_leftovers),
    "log": Kind(begin_nothing, write_log, read_log, nothing),
    "bandit": Kind(begin_nothing, write_bandit, read_bandit, nothing),
    "store": Kind(begin_nothing, write_store, read_store, nothing),
    "shards": Kind(begin_shards, write_shards, read_shards, shard_leftovers),
    "checkpoint": Kind(begin_checkpoint, write_checkpoint, read_checkpoint, checkpoint_leftovers),
}


def run_writer(kind: str, folder: Path, mark: str) -> None:
    """Writes names without end; says each once its call has returned."""
    write = KINDS[kind].writer(folder)
    said = os.open(folder / f"said-{kind}-{mark}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number = 0
    print("ready", flush=True)
    while True:
        name = f"{mark}.{number}"
        write(name)
        os.write(said, f"{name}\n".encode())
        number += 1
        time.sleep(0.002)


def run_reader(kind: str, folder: Path) -> None:
    """Reads until it is ended; what was said before must be there."""
    reads = 0
    stop = False

    def end(*_: object) -> None:
        nonlocal stop
        stop = True

    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while not stop:
        said = set(read_names(folder, kind))
        lost = said - KINDS[kind].read(folder)
        if lost:
            raise AssertionError(f"{kind}: {len(lost)} were lost, such as {min(lost)}")
        reads += 1
    print(reads)


def start(role: str, kind: str, folder: Path, mark: str) -> "subprocess.Popen[str]":
    """Starts a writer or a reader, and waits until it begins."""
    command = [sys.executable, __file__, "--as", role, kind, mark, "--output", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def stress(kind: str, folder: Path, *, seconds: float, seed: int) -> tuple[dict[str, int], str]:
    """Runs two writers, of which one is killed now and then, and a reader; returns the counts."""
    drawn = random.Random(seed)
    KINDS[kind].begin(folder)
    steady, reader = start("writer", kind, folder, "s"), start("reader", kind, folder, "r")
    kills, mortal = 0, start("writer", kind, folder, "m0")
    problems = []
    until = time.monotonic() + seconds
    while time.monotonic() < until or not kills:
        time.sleep(drawn.uniform(0, 0.2))
        problems += ended(mortal)
        kills += 1
        mortal = start("writer", kind, folder, f"m{kills}")
    problems += ended(mortal) + ended(steady)
    reader.terminate()
    out, err = reader.communicate()
    if reader.returncode:
        problems.append(err)
    said_names = set(read_names(folder, kind))
    there = KINDS[kind].read(folder)
    KINDS[kind].writer(folder)("last")
    left = KINDS[kind].leftovers(folder)
    counts = {
        "writes": len(said_names),
        "kills": kills + 2,
        "reads": int(out or 0),
        "lost": len(said_names - there),
        "left over": len(left),
        "errors": len(problems),
    }
    return counts, "\n".join(problems + left)


def ended(process: "subprocess.Popen[str]") -> list[str]:
    """Kills a writer; returns what it said if it had ended by itself."""
    fell = process.poll() is not None
    process.kill()
    _, err = process.communicate()
    return [err] if fell else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of all kinds together")
    parser.add_argument("--kind", choices=list(KINDS), action="append", help="these alone")
    parser.add_argument("--output", type=Path, default=Path("runs/stress"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--as", dest="role", nargs=3, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.output
    if arguments.role is not None:
        role, kind, mark = arguments.role
        run_reader(kind, folder) if role == "reader" else run_writer(kind, folder, mark)
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    failed = 0
    print("| what | writes | kills | reads | lost | left over | errors |")
    print("|---|---|---|---|---|---|---|")
    kinds = arguments.kind or list(KINDS)
    for kind in kinds:
        counts, said = stress(
            kind, folder, seconds=arguments.seconds / len(kinds), seed=arguments.seed
        )
        print(f"| {kind} | {' | '.join(f'{count:,}' for count in counts.values())} |", flush=True)
        if said:
            print(said, file=sys.stderr)
        failed += counts["lost"] + counts["left over"] + counts["errors"]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
