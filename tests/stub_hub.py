"""As much of the hub's HTTP interface as pushing, listing and downloading a repository take."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by name: commits, oldest first, each with its files; and who asked what.

    A request without this token is refused where something is written.
    """

    token: str = "hf_stub"
    repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def commit(self, name: str, files: dict[str, bytes], *, deleted: set[str] = frozenset()) -> str:
        commits = self.repositories.setdefault(name, [])
        before = commits[-1][1] if commits else {}
        kept = {path: content for path, content in before.items() if path not in deleted}
        sha = hashlib.sha1(repr((name, len(commits))).encode()).hexdigest()
        commits.append((sha, {**kept, **files}))
        return sha

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(name, [])
        if revision == "main" and commits:
            return commits[-1]
        return next((commit for commit in commits if commit[0] == revision), None)


def set_endpoint(monkeypatch, address: str) -> None:
    """What HF_ENDPOINT does to a process of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextmanager
def serve_to(monkeypatch, *, cache) -> Iterator[Hub]:
    """A hub of one's own for this process, with an empty cache."""
    from huggingface_hub import constants

    with serve() as hub:
        set_endpoint(monkeypatch, hub.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts[:2] == ["api", "models"]:
            name, rest = "/".join(parts[2:4]), parts[4:]
            if name not in self.hub.repositories:
                return self._refuse(404, "RepoNotFound")
            revision = rest[1] if len(rest) > 1 else "main"
            found = self.hub.find(name, revision)
            if found is None:
                return self._refuse(404, "RevisionNotFound")
            if rest[:1] == ["tree"]:
                return self._json([_describe(path, text) for path, text in found[1].items()])
            siblings = [{"rfilename": path} for path in found[1]]
            return self._json({"id": name, "sha": found[0], "siblings": siblings})
        if len(parts) > 4 and parts[2] == "resolve":
            found = self.hub.find("/".join(parts[:2]), parts[3])
            content = found[1].get("/".join(parts[4:])) if found else None
            if content is None:
                return self._refuse(404, "EntryNotFound")
            etag = _describe("", content)["oid"]
            return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": found[0]})
        return self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self):
        self.hub.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._refuse(401, "")
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts == ["api", "repos", "create"]:
            wanted = json.loads(body)
            name = f"{wanted.get('organization') or 'me'}/{wanted['name']}"
            if name in self.hub.repositories:
                return self._json({"url": f"{self.hub.address}/{name}"}, status=409)
            self.hub.repositories[name] = []
            self.hub.commit(name, {".gitattributes": b""})
            self.hub.private[name] = wanted.get("visibility") == "private"
            return self._json({"url": f"{self.hub.address}/{name}"})
        if parts == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        name = "/".join(parts[2:4])
        if parts[4] == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        if parts[4] == "commit":
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            deleted = {line["value"]["path"] for line in lines if line["key"] == "deletedFile"}
            sha = self.hub.commit(name, files, deleted=deleted)
            url = f"{self.hub.address}/{name}/commit/{sha}"
            return self._json({"commitUrl": url, "commitOid": sha, "pullRequestUrl": None})
        return self._refuse(404, "")

    def _json(self, value, *, status=200):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status, code):
        self._send(status, b"{}", {"X-Error-Code": code} if code else {})

    def _send(self, status, content, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _describe(path: str, content: bytes) -> dict:
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {"type": "file", "path": path, "size": len(content), "oid": oid}
