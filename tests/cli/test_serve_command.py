"""`subspace serve` as an agent starts it: a real process, a real client of the protocol."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from command_line import run
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from retrieval_world import RECORDS, make_model

from subspace.retrieval import Index

TOKEN = "a-token-of-this-service-42"


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    model = make_model(tiny_qwen)
    # One block to search by: the others of an index are centred on its texts.
    model.changed(default_weights={name: float(name == "topic") for name in model.layout}).save(
        folder
    )
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three skills and a note, as they lie on disk."""
    skills = tmp_path / "skills"
    for name, about in {
        "bake-bread": "knead the dough, let it rise, bake the loaf",
        "prune-roses": "cut above a bud in spring",
        "file-taxes": "fill in the form before the end of April",
    }.items():
        (skills / name).mkdir(parents=True)
        (skills / name / "SKILL.md").write_text(
            f"---\nname: {name}\ndescription: {about}\n---\nDo it step by step.\n"
        )
    (skills / "broken.md").write_text("---\nname: [not closed\n---\nA file that stops nobody.\n")
    (skills / "notes.md").write_text("# Oven\nThe oven is hotter at the back.\n")
    return skills


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "subspace", "serve", *map(str, arguments)]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **more}


@contextmanager
def service(*arguments: str | Path, **more: str) -> Iterator[tuple[subprocess.Popen, httpx.Client]]:
    """A running service over HTTP."""
    process = subprocess.Popen(
        command("--port", "0", *arguments),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**more),
    )
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if "/docs" in line:
                break
        else:
            pytest.fail("".join(said))
        address = line.split("/docs")[0]
        with httpx.Client(base_url=address, timeout=60) as client:
            yield process, client
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        process.stderr.close()


def test_an_agent_starts_it_and_finds_the_skills_of_a_folder(checkpoint, folder, tmp_path):
    arguments = ("--stdio", "--checkpoint", checkpoint, "--index", tmp_path / "memory")
    program, *rest = command(*arguments, "--watch", folder, "--preset", "auto")
    server = StdioServerParameters(command=program, args=rest, env=environment())

    async def work() -> None:
        with (tmp_path / "log").open("w") as log:
            async with Client(stdio_client(server, errlog=log)) as agent:
                listed = await agent.call_tool("list_items", {})
                items = json.loads(listed.content[0].text)["items"]
                names = {item["id"] for item in items}
                assert names == {"bake-bread", "prune-roses", "file-taxes", "notes"}
                found = await agent.call_tool("search_memory", {"query": "bread", "k": 2})
                search = json.loads(found.content[0].text)
                used = {search["hits"][0]["id"]: 1.0}
                report = {"items": used, "search_id": search["search_id"]}
                counted = await agent.call_tool("report_use", report)
                told = json.loads(counted.content[0].text)
                assert told == {"counted": 1, "learned": True}
                (folder / "grow-herbs.md").write_text("# Herbs\nBasil needs sun.\n")
                (folder / "notes.md").unlink()

                async def names_now() -> set[str]:
                    listed = await agent.call_tool("list_items", {})
                    return {item["id"] for item in json.loads(listed.content[0].text)["items"]}

                with anyio.fail_after(30):
                    while await names_now() != names - {"notes"} | {"grow-herbs"}:
                        await anyio.sleep(0.1)

    anyio.run(work)
    with Index.open(tmp_path / "memory", checkpoint) as index:
        assert "grow-herbs" in {record.id for record in index.list()}


def test_two_services_of_one_index_lose_nothing_to_each_other_a_kill_or_a_stop(
    checkpoint, tmp_path
):
    Index.create(tmp_path / "memory", checkpoint, RECORDS).close()
    arguments = ("--checkpoint", checkpoint, "--index", tmp_path / "memory")
    with (
        service(*arguments, SUBSPACE_TOKEN=TOKEN) as (killed, one),
        service(*arguments, "--namespace", "two", SUBSPACE_TOKEN=TOKEN) as (stopped, two),
    ):
        assert one.get("/about").status_code == 401
        for client in (one, two):
            client.headers["authorization"] = f"Bearer {TOKEN}"
        for number in range(5):
            for client, name in ((one, "a"), (two, "b")):
                item = {"id": f"{name}{number}", "text": f"note {number} of {name}"}
                assert client.post("/items", json={"items": [item]}).status_code == 200
        assert one.delete("/items/b4").status_code == 200
        for client in (one, two):
            assert client.get("/about").json()["items"] == len(RECORDS) + 9
            assert client.post("/use", json={"items": {"a0": 1.0}}).json()["counted"] == 1
        killed.send_signal(signal.SIGKILL)
        killed.wait(30)
        assert two.get("/items/a4").json()["text"] == "note 4 of a"
        assert two.post("/items", json={"items": [{"id": "last", "text": "b"}]}).status_code == 200
        usage = tmp_path / "memory.usage.db"
        with Index.open(tmp_path / "memory", checkpoint, usage=usage) as index:
            kept = {record.id for record in index.list()} - {record.id for record in RECORDS}
            assert kept == {*(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(4)), "last"}
            assert len(index.blocks.history.log) == 2
        # An index that is built again, centred on other texts, is opened again.
        Index.create(tmp_path / "memory", checkpoint, RECORDS[:3]).close()
        assert two.get("/about").json()["items"] == 3
        found = two.post("/search", json={"query": "bread", "weights": {"style": 1}}).json()
        assert len(found["hits"]) == 3
        stopped.send_signal(signal.SIGTERM)
        assert stopped.wait(30) == 0
    assert not list(tmp_path.glob("*-wal"))  # all was closed


REFUSED = [
    ([], "--create makes an empty one"),
    (["--watch", "nowhere"], "there is no folder nowhere"),
    (["--create", "--host", "0.0.0.0"], "needs a token"),
    (["--create", "--token-file", "nowhere"], "cannot read nowhere"),
    (["--create", "--token-file", "short"], "16 ASCII characters"),
    (["--create", "--port", "70000"], "between 0 and 65535"),
    (["--create", "--timeout", "0"], "--timeout must be above 0"),
    (["--create", "--threads", "-1"], "--threads must be above 0"),
    (["--create", "--preset", "nope"], "no preset 'nope'"),
    (["--watch", "empty"], "holds no skills or notes"),
    (["--watch", "empty", "--read-only"], "--read-only goes with neither --watch nor --create"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED, ids=[" ".join(o) for o, _ in REFUSED])
def test_what_cannot_be_served_is_said_before_anything_is_made(checkpoint, tmp_path, options, said):
    (tmp_path / "short").write_text("short\n")
    (tmp_path / "empty").mkdir()
    arguments = ["--checkpoint", checkpoint, "--index", "memory", *options]
    if "--port" not in options:
        arguments += ["--port", "0"]
    output = run("serve", *arguments, cwd=tmp_path, expect=2)
    assert said in output.stderr
    assert not (tmp_path / "memory").exists()
