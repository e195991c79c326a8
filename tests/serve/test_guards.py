"""Nobody gets in who should not, and nobody can keep the service busy by sending much or slowly."""

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serve_world import make_memory, send, serving

from subspace.errors import ConfigError
from subspace.serve.guards import is_loopback
from subspace.serve.server import Limits, bind, check_address

TOKEN = "a-token-of-this-service-42"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, model):
    memory = make_memory(tmp_path_factory.mktemp("guarded"), model)
    with serving(memory, token=TOKEN) as client:
        yield client
    memory.close()


def test_with_the_token_a_client_gets_in_and_without_it_only_to_health(guarded):
    assert guarded.get("/about").status_code == 200
    assert guarded.get("/about", headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
    nobody = {"authorization": ""}
    assert guarded.get("/health", headers=nobody).status_code == 200
    assert guarded.post("/health", headers=nobody, content=b"a" * 10_000).status_code == 401
    for path in ("/about", "/docs", "/openapi.json", "/metrics", "/ready", "/items/cake", "/mcp"):
        refused = guarded.get(path, headers=nobody)
        assert refused.status_code == 401
        assert "Bearer" in refused.json()["error"]
        assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "sent",
    ["", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN],
)
def test_a_wrong_token_does_not_get_in(guarded, sent):
    assert guarded.get("/about", headers={"authorization": sent}).status_code == 401


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.binary(max_size=60).filter(lambda sent: b"\n" not in sent))
def test_no_other_bytes_get_in(guarded, sent):
    with send(
        guarded, b"GET /about HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + sent + b"\r\n\r\n"
    ) as connection:
        assert re.match(rb"HTTP/1.1 (400|401) ", connection.recv(4096))


def test_the_token_is_in_no_log_and_no_answer(guarded, caplog):
    caplog.set_level("DEBUG")
    answers = [guarded.get("/about"), guarded.get("/nothing"), guarded.post("/search", json={})]
    assert all(TOKEN not in answer.text for answer in answers)
    ours = [r for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert all(TOKEN not in record.getMessage() for record in ours)


def test_a_name_that_points_here_but_is_not_ours_is_refused(client):
    for host in (
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[",
        "a b",
    ):
        assert client.get("/health", headers={"host": host}).status_code in (400, 421)
    for host in ("localhost", "localhost:1234", "127.0.0.1", "[::1]:80", "LOCALHOST"):
        assert client.get("/health", headers={"host": host}).status_code == 200


def test_pages_of_other_sites_are_refused_and_our_own_is_not(client):
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://["):
        assert client.get("/about", headers={"origin": origin}).status_code == 403
    assert client.get("/about", headers={"origin": "http://localhost:8077"}).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(client):
    much = b'{"query": "' + b"a" * (10 << 20) + b'"}'
    refused = client.post("/search", content=much, headers={"content-type": "application/json"})
    assert refused.status_code == 413
    assert "65536 bytes" in refused.json()["error"]


def test_a_body_without_a_length_is_refused_when_it_gets_too_large(client):
    def chunks():
        for _ in range(200):
            yield b"a" * 1024

    refused = client.post("/search", content=chunks())
    assert refused.status_code == 413


def test_who_sends_a_body_too_slowly_is_refused(tmp_path, model):
    memory = make_memory(tmp_path, model)
    with serving(memory, limits=Limits(seconds=0.3)) as client:
        slow = send(
            client,
            b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{",
        )
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
        slow.close()
        assert client.get("/health").status_code == 200
    memory.close()


def test_who_never_finishes_the_head_of_a_request_is_hung_up_on(tmp_path, model, monkeypatch):
    monkeypatch.setattr("subspace.serve.server._HEAD_S", 0.2)
    memory = make_memory(tmp_path, model)
    with serving(memory) as client:
        slow = send(client, b"GET /health HTTP/1.1\r\n")
        slow.settimeout(10)
        began = time.monotonic()
        for _ in range(100):
            try:
                slow.sendall(b"X-A: b\r\n")
            except OSError:
                break
            time.sleep(0.05)
        assert time.monotonic() - began < 4
        # A client that keeps its connection open between requests is not hung up on for that.
        for _ in range(4):
            assert client.get("/health").status_code == 200
            time.sleep(0.15)
        slow.close()
    memory.close()


def test_beyond_this_machine_a_token_is_needed_and_a_long_one():
    for host in ("127.0.0.1", "localhost", "::1"):
        check_address(host, token=None)
        assert is_loopback(host)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(ConfigError, match="needs a token"):
            check_address(host, token=None)
        check_address(host, token=TOKEN)
    for token in ("short", "", "ä" * 40):
        with pytest.raises(ConfigError, match="16 ASCII characters"):
            check_address("127.0.0.1", token=token)


def test_with_a_token_any_name_of_the_machine_may_be_asked_and_its_own_pages_alone(tmp_path, model):
    memory = make_memory(tmp_path, model)
    with serving(memory, host="0.0.0.0", token=TOKEN) as client:
        host = {"host": "memory.example:8077"}
        assert client.get("/about", headers=host).status_code == 200
        own = {**host, "origin": "https://memory.example"}
        assert client.get("/about", headers=own).status_code == 200
        other = {**host, "origin": "https://evil.example"}
        assert client.get("/about", headers=other).status_code == 403
    memory.close()


def test_ports_in_use_or_out_of_range_and_foreign_hosts_are_said():
    with bind("127.0.0.1", 0) as bound, pytest.raises(ConfigError, match="cannot listen"):
        bind("127.0.0.1", bound.getsockname()[1])
    with pytest.raises(ConfigError, match="between 0 and 65535"):
        bind("127.0.0.1", 70000)
    with pytest.raises(ConfigError, match=r"cannot listen at 192\.0\.2\.1"):
        bind("192.0.2.1", 0)
