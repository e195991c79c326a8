"""What reads from outside, each as a function of bytes that must end well or in a sentence.

`test_fuzz.py` tries some hundred inputs of each, `benchmarks/fuzz.py` millions.
"""

import asyncio
import contextlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from engine_world import ABOUT, LAYOUT, unit_vectors

from subspace.cli.arguments import read_filters
from subspace.data import read_notes, read_records
from subspace.data.comparisons import read_comparisons
from subspace.data.metadata import find_fault
from subspace.data.records import Record
from subspace.data.retrieval_sets import read_retrieval_set
from subspace.encoder.embedding_store import EmbeddingStore
from subspace.errors import SubspaceError
from subspace.model import Model, load
from subspace.model.toward import read_toward
from subspace.retrieval import UsageLog, Weights, create_engine, open_engine
from subspace.retrieval.engines.filters import check_where

# Parts an input of several files.
BREAK = b"\n----\n"


@dataclass(frozen=True)
class Target:
    """One thing that reads from outside.

    Attributes:
        seeds: Inputs that are right, from which others are made.
        run: Reads an input; raises whatever is no sentence for people.
    """

    seeds: tuple[bytes, ...]
    run: Callable[[bytes], None]


class Fuzzing:
    """All targets, with a folder that each run leaves empty."""

    def __init__(self, model: Model) -> None:
        """Makes what is damaged later: an index, a store, a checkpoint, and a served memory."""
        logging.getLogger("subspace").setLevel(logging.ERROR)
        self._root = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._whole = self._root / "whole"
        self._model = model
        self._make_folders()
        self._loop, self._stop = asyncio.new_event_loop(), asyncio.Event()
        self._app = self._make_app()
        self.targets: Mapping[str, Target] = {
            "records": Target(RECORDS, self._files("records.jsonl", read_records)),
            "comparisons": Target(COMPARISONS, self._files("c.jsonl", read_comparisons)),
            "retrieval set": Target(SETS, self._retrieval_set),
            "skill": Target(SKILLS, self._skill),
            "uses": Target(USES, self._uses),
            "weights": Target(WEIGHTS, self._text(lambda t: Weights.parse(t, layout=LAYOUT))),
            "weights in yaml": Target(
                YAML, self._files("w.yaml", lambda path: Weights.read(path, layout=LAYOUT))
            ),
            "toward": Target(TOWARD, self._text(read_toward)),
            "filter": Target(FILTERS, self._text(lambda t: check_where(read_filters([t])))),
            "metadata": Target(METADATA, self._metadata),
            "index folder": Target(self._damages("index"), self._damaged("index", read_index)),
            "store folder": Target(self._damages("store"), self._damaged("store", read_store)),
            "checkpoint": Target(
                self._damages("checkpoint"), self._damaged("checkpoint", read_checkpoint)
            ),
            "http": Target(HTTP, self._http),
            "mcp": Target(MCP, self._mcp),
        }

    def close(self) -> None:
        """Removes everything."""
        self._stop.set()
        self._loop.run_until_complete(self._running)
        self._loop.close()
        self._memory.close()
        shutil.rmtree(self._root)

    def _make_folders(self) -> None:
        engine = create_engine(self._whole / "index", **ABOUT)
        documents = [Record(id=f"d{n}", text=f"text {n}", metadata={"n": n}) for n in range(4)]
        engine.upsert(documents[:3], unit_vectors(3))
        engine.save()
        later = open_engine(self._whole / "index")
        later.upsert(documents[3:], unit_vectors(1, seed=2))
        later.delete(["d0"])
        later.save()
        store = open_store(self._whole / "store")
        store.append(["a", "b"], unit_vectors(2))
        self._model.save(self._whole / "checkpoint")
        self._sound = {
            "index": read_index(self._whole / "index"),
            "store": read_store(self._whole / "store"),
            "checkpoint": read_checkpoint(self._whole / "checkpoint"),
        }

    def _make_app(self) -> Any:
        from serve_world import LIMITS, make_memory

        from subspace.serve.guards import Guards
        from subspace.serve.http_api import make_app

        self._memory = make_memory(self._root, self._model)
        app = make_app(self._memory, work=LIMITS.make_work(), most_bytes=LIMITS.most_bytes)
        begun = asyncio.Event()

        async def live() -> None:
            async with app.router.lifespan_context(app):
                begun.set()
                await self._stop.wait()

        self._running = self._loop.create_task(live())
        self._loop.run_until_complete(begun.wait())
        return Guards(app, token=None, loopback=True, most_bytes=LIMITS.most_bytes, seconds=20)

    def _text(self, read: Callable[[str], object]) -> Callable[[bytes], None]:
        def run(data: bytes) -> None:
            with contextlib.suppress(SubspaceError):
                read(data.decode(errors="surrogateescape"))

        return run

    def _files(self, name: str, read: Callable[[Path], object]) -> Callable[[bytes], None]:
        def run(data: bytes) -> None:
            path = self._root / name
            path.write_bytes(data)
            with contextlib.suppress(SubspaceError):
                read(path)

        return run

    def _retrieval_set(self, data: bytes) -> None:
        folder = self._root / "set"
        folder.mkdir(exist_ok=True)
        parts = [*data.split(BREAK), b"", b""]
        for name, part in zip(("corpus.jsonl", "queries.jsonl", "qrels.tsv"), parts, strict=False):
            (folder / name).write_bytes(part)
        with contextlib.suppress(SubspaceError):
            read_retrieval_set(folder)

    def _skill(self, data: bytes) -> None:
        (self._root / "skills" / "one").mkdir(parents=True, exist_ok=True)
        (self._root / "skills" / "one" / "SKILL.md").write_bytes(data)
        with contextlib.suppress(SubspaceError):
            for record in read_notes(self._root / "skills"):
                assert find_fault(dict(record.metadata)) is None

    def _uses(self, data: bytes) -> None:
        (self._root / "uses.jsonl").write_bytes(data)
        for path in self._root.glob("uses.db*"):
            path.unlink()
        with UsageLog.open(self._root / "uses.db") as log, contextlib.suppress(SubspaceError):
            added = log.import_jsonl(self._root / "uses.jsonl")
            assert added == len(log) == len(list(log.since()))

    def _metadata(self, data: bytes) -> None:
        """What an index takes comes back as it was, from the folder too."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return
        record = Record(id="m", text="t", metadata={"value": value})
        engine = create_engine(self._root / "kept", **ABOUT)
        try:
            engine.upsert([record], unit_vectors(1))
        except SubspaceError:
            return
        engine.save()
        (kept,) = open_engine(self._root / "kept").fetch(["m"]).documents
        assert json.dumps(kept.metadata) == json.dumps(record.metadata)

    def _damages(self, name: str) -> tuple[bytes, ...]:
        """One seed for each file of a folder: its number, a place, and what stands there."""
        files = files_of(self._whole / name)
        return tuple(bytes([number, 0, 3]) + b"\x00" for number in range(len(files)))

    def _damaged(self, name: str, read: Callable[[Path], bytes]) -> Callable[[bytes], None]:
        """Damages one file; what is then read must be refused, or be what it was."""

        def run(data: bytes) -> None:
            if len(data) < 3:
                return
            folder = self._root / f"damaged-{name}"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(self._whole / name, folder)
            files = files_of(folder)
            path = files[data[0] % len(files)]
            content = bytearray(path.read_bytes())
            place = int.from_bytes(data[1:3]) % (len(content) + 1)
            content[place : place + len(data) - 3] = data[3:]
            path.write_bytes(bytes(content))
            try:
                found = read(folder)
            except SubspaceError:
                return
            # Of a file that is only appended to, a torn end is what a killed writer leaves.
            torn = path.name.startswith("changes") or name == "store"
            # Names that can be read in a configuration make another model, which an index refuses.
            renamed = path.name == "config.json" and found[:_DIGEST] != self._sound[name][:_DIGEST]
            assert found == self._sound[name] or torn or renamed, path.name

        return run

    def _http(self, data: bytes) -> None:
        path, _, body = data.partition(b" ")
        addresses = ("/search", "/items", "/use", "/list", "/explain", "/pins", "/delete")
        self._ask(addresses[sum(path) % len(addresses)], body)

    def _mcp(self, data: bytes) -> None:
        self._ask("/mcp", data)

    def _ask(self, path: str, body: bytes) -> None:
        import httpx

        async def ask() -> int:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                answer = await client.post(
                    path,
                    content=body,
                    headers={
                        "content-type": "application/json",
                        "accept": "application/json, text/event-stream",
                    },
                )
            return answer.status_code

        assert self._loop.run_until_complete(ask()) < 500


def files_of(folder: Path) -> list[Path]:
    """All files of a folder that are not locks; names with marks differ from run to run."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and "lock" not in path.name)


def open_store(folder: Path) -> EmbeddingStore:
    return EmbeddingStore.open(folder, digest="d" * 16, fingerprint={"model": "m"}, dim=LAYOUT.dim)


def read_store(folder: Path) -> bytes:
    store = open_store(folder)
    rows = store.find(["a", "b"])
    return store.read(rows[rows >= 0]).tobytes()


def read_index(folder: Path) -> bytes:
    found = open_engine(folder).sample(10)
    texts = [(d.id, d.text, dict(d.metadata)) for d in found.documents]
    return json.dumps(texts).encode() + found.vectors.tobytes()


# Length of a model's digest.
_DIGEST = 64


def read_checkpoint(folder: Path) -> bytes:
    model = load(folder)
    model.open_encoder()
    return model.digest.encode() + np.asarray(model.projection.weight).tobytes()


RECORDS = (
    b'{"id": "a", "text": "b", "factors": {"topic": "x", "complexity": 1.5}, "group": null}\n'
    b'{"id": "c", "text": "d", "split": "test", "metadata": {"n": [1, {"a": null}]}}\n',
    b"\xef\xbb\xbf" + b'{"id": "\\u00e9", "text": "\\ud83d\\ude42"}\r\n\r\n',
)
COMPARISONS = (b'{"factor": "complexity", "more": "a", "less": "b"}\n',)
SETS = (
    b'{"_id": "d1", "title": "t", "text": "x", "metadata": {"a": 1}}\n'
    + BREAK
    + b'{"_id": "q1", "text": "y"}\n'
    + BREAK
    + b"query-id\tcorpus-id\tscore\nq1\td1\t2\n",
)
SKILLS = (
    b"---\nname: a\ndescription: b\ntags: [x, {y: 2}]\ndate: 2024-01-03\n---\n# Title\nbody\n",
    b"# Only a heading\n\ntext\n",
)
USES = (
    b'{"item": "a", "time": 1.5, "success": 0.5, "query": "q", "namespace": "n"}\n'
    b'{"item": "b", "time": "2024-01-03T10:00:00+01:00"}\n',
)
WEIGHTS = (b"topic=0.7,style=0.1,riv=0.15,0.15,0.7", b"preset=balanced;tone=1e-3")
YAML = (b"blocks: {topic: 1}\npreset: balanced\n", b"relevance: {topic: 0.8}\nrecency: {tone: 1}\n")
TOWARD = (b"complexity=-1,style:formal=0.5",)
FILTERS = (b"year>=2020", b'"a=b"=5', b"lang=en", b"flag=true")
METADATA = (
    b'{"a": [1, 2.5, null, true, "\\u2028"], "b": {"c": {}}}',
    b"12345678901234567890",
    b"[]",
)
HTTP = (
    b' {"query": "bake", "k": 3, "weights": {"topic": 1}, "toward": {"complexity": -1}}',
    b'! {"items": [{"id": "x", "text": "y", "metadata": {"n": 1}}]}',
    b'" {"items": {"cake": 0.5}, "search_id": "s", "namespace": "n"}',
    b'# {"after": "a", "limit": 3, "where": {"loud": [true], "n": {">=": 1}}}',
    b'$ {"search_id": "s", "id": "cake"}',
    b'% {"ids": ["cake"], "pinned": false}',
)
MCP = (
    b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "search_memory", '
    b'"arguments": {"query": "bake", "k": 2, "where": {"loud": true}}}}',
    b'{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": '
    b'"2025-06-18", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}}}',
    b'{"jsonrpc": "2.0", "method": "notifications/initialized"}',
)
