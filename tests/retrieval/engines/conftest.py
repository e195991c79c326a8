"""Servers that run as long as the tests: a real PostgreSQL with pgvector, and a milvus-lite."""

import shutil
import tempfile
import warnings
from itertools import count
from pathlib import Path

import pytest
from engine_world import ABOUT

from subspace.retrieval.engines import create_engine

numbers = count()


@pytest.fixture(scope="session")
def postgres():
    """The address of a server."""
    import psycopg

    # pgserver opens the folders above its own to its user, which pytest's own folders do not
    # stay; and the path of a socket must be short.
    folder = Path(tempfile.mkdtemp())
    try:
        with warnings.catch_warnings():
            # It asks where run-time files belong, which no desktop session says here.
            warnings.simplefilter("ignore")
            import pgserver

        server = pgserver.get_server(folder / "pg")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")  # no disk has to keep what is tried
            connection.execute("SELECT pg_reload_conf()")
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL could be started: {error!r:.300}")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def milvus_file(tmp_path_factory):
    """One file for all tests, whose milvus-lite runs as long as an engine is open."""
    pytest.importorskip("pymilvus", reason="needs the extra 'milvus'")
    pytest.importorskip("milvus_lite", reason="needs the extra 'milvus'")
    path = tmp_path_factory.mktemp("milvus") / "index.db"
    engine = create_engine(f"{path}#first", **ABOUT)
    yield path
    engine.close()


@pytest.fixture
def table(postgres) -> str:
    """A table that is not there yet."""
    return f"{postgres}#items {next(numbers)}"


@pytest.fixture
def collection(milvus_file) -> str:
    """A collection that is not there yet."""
    return f"{milvus_file}#c{next(numbers)}"
