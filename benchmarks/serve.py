"""A served memory under load, killed, and with 100,000 items, next to the library in the same run.

    OMP_NUM_THREADS=1 python benchmarks/serve.py                      # all of it
    OMP_NUM_THREADS=1 python benchmarks/serve.py --only load --requests 10000 --clients 16

`overhead`: one client, searches with and without encoding, beside the same calls of the library.
`load`: 16 clients with mixed requests over HTTP; every answered write is looked for at the end.
`kills`: SIGKILL at random moments while clients write; whatever was answered must be there.
`size`: start-up time and memory of a service with 100,000 items.
Exits with 1 if something was lost or an error was met.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import subspace
from subspace.blocks import unit_blocks
from subspace.retrieval import Like
from subspace.serve.memory import Memory
from subspace.serve.messages import SearchRequest

WORDS = (Path(__file__).resolve().parents[1] / "data/factorial/records.jsonl").read_text("utf-8")
TEXTS = [json.loads(line)["text"] for line in WORDS.splitlines()]
START_S = 120.0


@dataclass
class Service:
    """A running `subspace serve`."""

    process: subprocess.Popen[str]
    port: int
    started_s: float

    def memory_mb(self) -> float:
        """Resident memory of the process."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def kill(self) -> None:
        """Kills the process, which can do nothing more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def serve(*arguments: str | Path) -> Iterator[Service]:
    """Runs a service until the block ends."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "subspace", "serve", "--port", "0", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    port = 0
    said = []
    for line in process.stderr:
        said.append(line)
        if "/docs" in line:
            port = int(line.split("/docs")[0].rpartition(":")[2])
            break
    if not port:
        raise SystemExit("the service did not start:\n" + "".join(said))
    connection = Connection(port)
    while True:
        with suppress(OSError):
            if connection.ask("GET", "/ready")[0] == 200:
                break
        if time.monotonic() > began + START_S:
            raise SystemExit("the service did not get ready")
        time.sleep(0.01)
    service = Service(process, port, time.monotonic() - began)
    # Nobody else reads what it says; a full pipe would stop it.
    drain = ThreadPoolExecutor(1)
    drain.submit(process.stderr.read)
    try:
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        drain.shutdown()


class Connection:
    """One client's connection, opened again if it was closed."""

    def __init__(self, port: int) -> None:
        """Opens nothing yet."""
        self._port = port
        self._open: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Sends one request, and returns status and answer."""
        if self._open is None:
            self._open = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            content = None if body is None else json.dumps(body)
            self._open.request(method, path, content, {"content-type": "application/json"})
            answer = self._open.getresponse()
            return answer.status, json.loads(answer.read())
        except BaseException:
            self._open.close()
            self._open = None
            raise


@dataclass
class Done:
    """What one client did, and what must be true at the end."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    uses: int = 0


def client(port: int, number: int, requests: int) -> Done:
    """One client: mostly searches, some writes; remembers what was answered."""
    rng, connection, done = random.Random(number), Connection(port), Done()
    made = Requests(number, rng, done)
    for step in range(requests):
        kind = rng.choices(
            ["search", "like", "add", "update", "delete", "use", "list", "show"],
            [50, 20, 8, 5, 2, 8, 2, 5],
        )[0]
        mine = sorted(done.kept)
        if kind in ("update", "delete", "show") and not mine:
            kind = "add"
        method, path, body, after = made.make(kind, step=step, mine=mine)
        began = time.perf_counter()
        try:
            status, answer = connection.ask(method, path, body)
        except OSError as error:
            done.errors.append(f"{kind}: {error!r}")
            continue
        done.seconds.setdefault(kind, []).append(time.perf_counter() - began)
        if status == 200:
            after(answer)
        else:
            done.errors.append(f"{kind}: {status} {answer}")
    return done


Request = tuple[str, str, Any, Callable[[Any], None]]


@dataclass
class Requests:
    """Makes a client's requests: method, path, body, and what to note once it was answered."""

    number: int
    rng: random.Random
    done: Done

    def make(self, kind: str, *, step: int, mine: list[str]) -> Request:
        """Makes a request of a kind; `mine` are the items that it may be about."""
        text = f"{self.rng.choice(TEXTS)} {self.number}-{step}"
        item = f"t{self.rng.randrange(len(TEXTS))}"
        if kind == "search":
            weights = {"topic": 1.0, "style": round(self.rng.random(), 2)}
            return "POST", "/search", {"query": text, "weights": weights}, ignore
        if kind == "like":
            return "POST", "/search", {"like": item}, ignore
        if kind == "list":
            return "POST", "/list", {"limit": 20}, ignore
        if kind == "use":
            body = {"items": {item: 1.0}, "namespace": f"n{self.number}"}
            return "POST", "/use", body, self._used
        name = f"c{self.number}-{step}" if kind == "add" else self.rng.choice(mine)
        return self._about(kind, name=name, text=text)

    def _about(self, kind: str, *, name: str, text: str) -> Request:
        path, kept = f"/items/{name}", self.done.kept
        if kind == "add":
            body = {"items": [{"id": name, "text": text}]}
            return "POST", "/items", body, lambda _: kept.update({name: text})
        if kind == "update":
            return "PATCH", path, {"text": text}, lambda _: kept.update({name: text})
        if kind == "show":
            return "GET", path, None, lambda answer: self._shown(name, answer)
        return "DELETE", path, None, lambda _: self._deleted(name)

    def _used(self, answer: Any) -> None:
        self.done.uses += answer["counted"]

    def _shown(self, name: str, answer: Any) -> None:
        if answer["text"] != self.done.kept[name]:
            self.done.errors.append(f"show: {name} is not what was written")

    def _deleted(self, name: str) -> None:
        del self.done.kept[name]
        self.done.removed.add(name)


def ignore(_: Any) -> None:
    """Notes nothing."""


def build(folder: Path, *, checkpoint: str) -> None:
    """Makes an index of the project's own corpus."""
    model = subspace.load(checkpoint)
    records = [subspace.Record(id=f"t{n}", text=text) for n, text in enumerate(TEXTS)]
    subspace.Index.create(folder / "index", model, records).close()


def percentiles(seconds: list[float]) -> str:
    values = np.percentile(np.array(seconds) * 1000, [50, 99])
    return f"{values[0]:.2f} | {values[1]:.2f}"


def measure(call: Callable[[int], Any], *, count: int) -> list[float]:
    for n in range(10):
        call(n)
    seconds = []
    for n in range(count):
        began = time.perf_counter()
        call(n)
        seconds.append(time.perf_counter() - began)
    return seconds


def overhead(folder: Path, *, checkpoint: str, rounds: int) -> None:
    """One client beside the library: alternately, so that both have the same machine."""
    import torch

    torch.set_num_threads(1)
    index = subspace.Index.open(folder / "index", checkpoint)
    print("\n## Overhead of one request (ms)\n\n| | p50 | p99 |\n|---|---|---|")
    with serve("--checkpoint", checkpoint, "--index", folder / "index") as service:
        connection = Connection(service.port)
        calls: dict[str, Callable[[int], Any]] = {
            "library, query of words": lambda n: index.search(TEXTS[n % len(TEXTS)]),
            "HTTP, query of words": lambda n: connection.ask(
                "POST", "/search", {"query": TEXTS[n % len(TEXTS)]}
            ),
            "library, like an item": lambda n: index.search(Like(f"t{n % len(TEXTS)}")),
            "HTTP, like an item": lambda n: connection.ask(
                "POST", "/search", {"like": f"t{n % len(TEXTS)}"}
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                seconds[name] += measure(call, count=100)
        for name, found in seconds.items():
            print(f"| {name} | {percentiles(found)} |")
        medians = {name: float(np.median(found)) for name, found in seconds.items()}
        words = medians["HTTP, query of words"] / medians["library, query of words"]
        more = medians["HTTP, like an item"] - medians["library, like an item"]
        print(
            f"\nwords: {words:.2f} times the library; without encoding: {more * 1000:.2f} ms more"
        )
    index.close()


def load(folder: Path, *, checkpoint: str, clients: int, requests: int) -> bool:
    """Many clients at once; then looks for every answered write."""
    each = requests // clients
    with serve("--checkpoint", checkpoint, "--index", folder / "index") as service:
        began = time.perf_counter()
        with ProcessPoolExecutor(2) as pool:
            futures = [
                pool.submit(several, service.port, numbers, each)
                for numbers in np.array_split(np.arange(clients), 2)
            ]
            done = [one for future in futures for one in future.result()]
        took = time.perf_counter() - began
        lost = missing(service.port, done)
        uses = sum(one.uses for one in done)
    with subspace.Index.open(
        folder / "index", checkpoint, usage=f"{folder / 'index'}.usage.db"
    ) as index:
        assert index.blocks.history is not None
        counted = len(index.blocks.history.log)
    errors = [error for one in done for error in one.errors]
    print(f"\n## {clients} clients, {each * clients} mixed requests\n")
    print(
        f"{took:.1f} s, {each * clients / took:.0f} a second; {len(errors)} errors, "
        f"{len(lost)} lost writes, {uses} uses answered and {counted} counted\n"
    )
    print("| | requests | p50 (ms) | p99 (ms) |\n|---|---|---|---|")
    kinds = sorted({kind for one in done for kind in one.seconds})
    for kind in kinds:
        found = [second for one in done for second in one.seconds.get(kind, [])]
        print(f"| {kind} | {len(found)} | {percentiles(found)} |")
    library(folder, checkpoint=checkpoint, clients=clients)
    for problem in (*errors[:5], *lost[:5]):
        print(problem)
    return not errors and not lost and uses == counted


def several(port: int, numbers: Any, requests: int) -> list[Done]:
    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(lambda number: client(port, int(number), requests), numbers))


def library(folder: Path, *, checkpoint: str, clients: int) -> None:
    """The same searches by as many threads of one process."""
    with subspace.Index.open(folder / "index", checkpoint) as index:
        memory = Memory(index)

        def one(number: int) -> list[float]:
            rng = random.Random(number)
            asked = [SearchRequest(query=f"{rng.choice(TEXTS)} {number}-{n}") for n in range(50)]
            return measure(lambda n: memory.search(asked[n % len(asked)]), count=100)

        with ThreadPoolExecutor(clients) as pool:
            found = [second for part in pool.map(one, range(clients)) for second in part]
        print(f"| the library's search, {clients} threads | {len(found)} | {percentiles(found)} |")


def missing(port: int, done: list[Done]) -> list[str]:
    """Returns what was answered and is not so."""
    connection, lost = Connection(port), []
    for one in done:
        for name, text in one.kept.items():
            status, answer = connection.ask("GET", f"/items/{name}")
            if status != 200 or answer["text"] != text:
                lost.append(f"lost: {name}: {status} {answer}")
        for name in one.removed:
            if connection.ask("GET", f"/items/{name}")[0] != 404:
                lost.append(f"back again: {name}")
    return lost


def kills(folder: Path, *, checkpoint: str, count: int) -> bool:
    """Kills the service while it writes; all that was answered must be there afterwards."""
    rng, done, lost = random.Random(0), Done(), []
    for number in range(count):
        with serve("--checkpoint", checkpoint, "--index", folder / "index") as service:
            lost += missing(service.port, [done])
            with ThreadPoolExecutor(1) as pool:
                writing = pool.submit(write_until_killed, service.port, number, done)
                time.sleep(0.05 + rng.random())
                service.kill()
                writing.result()
    with serve("--checkpoint", checkpoint, "--index", folder / "index") as service:
        lost += missing(service.port, [done])
    with subspace.Index.open(
        folder / "index", checkpoint, usage=f"{folder / 'index'}.usage.db"
    ) as index:
        assert index.blocks.history is not None
        counted = len(index.blocks.history.log)
    print(f"\n## Killed {count} times\n")
    print(
        f"{len(done.kept) + len(done.removed)} items written, {done.uses} uses answered and "
        f"{counted} counted, {len(lost)} lost"
    )
    for problem in lost[:5]:
        print(problem)
    # The last of each kill may have been written without an answer.
    return not lost and done.uses <= counted <= done.uses + count


def write_until_killed(port: int, number: int, done: Done) -> None:
    """Writes until nobody answers; what was not answered may be so or so, and is not looked for."""
    connection, rng = Connection(port), random.Random(number)
    made = Requests(1000 + number, rng, done)
    with suppress(OSError, http.client.HTTPException):
        for step in range(100_000):
            known = sorted(done.kept)
            kind = rng.choice(["add", "add", "update", "delete", "use"] if known else ["add"])
            mine = [rng.choice(known)] if kind in ("update", "delete") else []
            method, path, body, after = made.make(kind, step=step, mine=mine)
            unsure = {name: done.kept.pop(name) for name in mine}
            status, answer = connection.ask(method, path, body)
            assert status == 200, answer
            done.kept.update(unsure)
            after(answer)


def size(folder: Path, *, checkpoint: str, items: int) -> None:
    """Start-up and memory with many items, whose vectors are random."""
    model = subspace.load(checkpoint)
    rng = np.random.default_rng(0)
    with subspace.Index.create(folder / "large", model) as index:
        for start in range(0, items, 10_000):
            count = min(10_000, items - start)
            vectors = rng.normal(size=(count, model.layout.dim)).astype(np.float32)
            records = [
                subspace.Record(id=f"r{n}", text=TEXTS[n % len(TEXTS)])
                for n in range(start, start + count)
            ]
            index.blocks.add(records, unit_blocks(vectors, layout=model.layout))
        index.save()
    print(f"\n## {items:,} items of {model.layout.dim} dimensions\n")
    with serve("--checkpoint", checkpoint, "--index", folder / "large") as service:
        connection = Connection(service.port)
        began = service.memory_mb()
        search = measure(lambda n: connection.ask("POST", "/search", {"query": TEXTS[n]}), count=50)
        add = measure(
            lambda n: connection.ask("POST", "/items", {"items": [{"text": TEXTS[n]}]}), count=50
        )
        print(
            f"ready after {service.started_s:.1f} s with {began:.0f} MB, {service.memory_mb():.0f} "
            f"MB after 60 searches and 60 writes\n\n| | p50 (ms) | p99 (ms) |\n|---|---|---|\n"
            f"| search | {percentiles(search)} |\n| add, on disk | {percentiles(add)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--only", choices=["overhead", "load", "kills", "size"])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="subspace-serve-"))
    good = True
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        build(folder, checkpoint=arguments.checkpoint)
        parts: dict[str, Callable[[], bool | None]] = {
            "overhead": lambda: overhead(
                folder, checkpoint=arguments.checkpoint, rounds=arguments.rounds
            ),
            "load": lambda: load(
                folder,
                checkpoint=arguments.checkpoint,
                clients=arguments.clients,
                requests=arguments.requests,
            ),
            "kills": lambda: kills(folder, checkpoint=arguments.checkpoint, count=arguments.kills),
            "size": lambda: size(folder, checkpoint=arguments.checkpoint, items=arguments.items),
        }
        for name, part in parts.items():
            if arguments.only in (None, name):
                good &= part() is not False
    finally:
        shutil.rmtree(folder)
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
