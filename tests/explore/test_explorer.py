"""What is wrong is reported before the page opens, and the page opens at a free port."""

import socket
import sys
from contextlib import closing

import numpy as np
import pytest
from retrieval_world import LAYOUT

from subspace.cli import main
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.explore.explorer import open_explorer
from subspace.explore.server import bind
from subspace.retrieval.engines import NumpyEngine


def test_the_page_opens_with_what_it_is_given(checkpoint, folder, usage, tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"id": "bread", "text": "any", "factors": {"mood": "glad"}}\n')
    with (
        closing(bind(18030)) as taken,
        open_explorer(
            checkpoint, folder, usage=usage, data=labels, port=taken.getsockname()[1]
        ) as explorer,
    ):
        assert explorer.port > taken.getsockname()[1]
        assert explorer.address == f"http://127.0.0.1:{explorer.port}"
        layout = explorer.app.server.test_client().get(
            "/_dash-layout", headers={"Host": "localhost"}
        )
        assert "mood" in layout.text
        assert "start with --usage" not in layout.text
    assert explorer.socket.fileno() == -1  # closed


def test_a_port_in_use_gives_the_next_and_only_this_machine_is_answered():
    with closing(bind(18050)) as first, closing(bind(first.getsockname()[1])) as second:
        assert second.getsockname()[1] > first.getsockname()[1]
        assert {first.getsockname()[0], second.getsockname()[0]} == {"127.0.0.1"}


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ConfigError, match="between 1 and 65535"):
        bind(port)


def test_ports_that_are_all_in_use_are_refused():
    with socket.socket() as last:
        last.bind(("127.0.0.1", 65535))
        last.listen()
        with pytest.raises(ConfigError, match="all in use"):
            bind(65535)


def test_without_dash_the_extra_to_install_is_named(checkpoint, folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "dash", None)
    monkeypatch.delitem(sys.modules, "subspace.explore.app")
    assert main(["explore", "--checkpoint", str(checkpoint), "--index", str(folder)]) == 2
    assert "pip install 'subspace-embeddings[explore]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--index", "nowhere"], "nowhere"),
        (["--index", "INDEX", "--checkpoint", "nowhere"], "nowhere"),
        (["--index", "INDEX", "--report", "nowhere"], "--report: cannot read nowhere"),
        (["--index", "INDEX", "--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--index", "INDEX", "--usage", "nowhere.db"], "nowhere.db"),
        (["--index", "INDEX", "--recency", "linear:5"], "give --usage"),
        (["--index", "INDEX", "--port", "0"], "between 1 and 65535"),
        (["--index", "OTHER"], "another checkpoint"),
    ],
)
def test_what_is_wrong_is_reported_before_the_page_opens(
    options, message, checkpoint, folder, tmp_path, capsys
):
    other = NumpyEngine(layout=LAYOUT, projection_digest="0")
    other.upsert([Record("a", "text")], np.ones((1, LAYOUT.dim), np.float32))
    other.save(tmp_path / "other")
    names = {"INDEX": str(folder), "OTHER": str(tmp_path / "other")}
    options = [names.get(option, option) for option in options]
    assert main(["explore", "--checkpoint", str(checkpoint), *options]) == 2
    assert message in capsys.readouterr().err
