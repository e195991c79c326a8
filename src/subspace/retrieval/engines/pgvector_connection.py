"""Where an index in PostgreSQL is, and connections to it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from subspace.errors import EngineError, install_command

if TYPE_CHECKING:
    from psycopg import Connection

# What PostgreSQL and pgvector take.
_NAME_BYTES = 63
# Of the connection, where the address does not say otherwise: a server that cannot be reached, or
# is gone without a word, is noticed.
_CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "subspace",
}
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE"
# No statement hangs for ever, unless the address, the user or the server has a limit of its own.
_TIMEOUT = """\
SELECT set_config('statement_timeout', '300s', false)
WHERE current_setting('statement_timeout') = '0'
"""
# What to do, by the SQLSTATE of the refusal.
_ADVICE = {
    "42501": "ask an administrator for the right to do so",
    "40P01": "nothing was changed; try again",
    "57014": "give it more time: ?options=-cstatement_timeout%3D30min in the address",
}
_ENDED = {"57P01", "57P02", "57P03", "57P05"}


@dataclass(frozen=True)
class Address:
    """Where an index is; as a text it names no user and no password.

    Attributes:
        parameters: Of the connection.
        table: The table.
    """

    parameters: Mapping[str, Any] = field(repr=False)
    table: str

    @classmethod
    def parse(cls, target: str) -> "Address":
        """Reads `postgresql://...#TABLE`; no message repeats any of it but the table."""
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict
        except ImportError as error:
            raise _missing(error) from error

        uri, _, table = target.rpartition("#")
        if not uri or not table:
            raise EngineError(f"the address of an index in PostgreSQL has a table: {_FORM}")
        if not target.isprintable() or len(table.encode()) > _NAME_BYTES:
            raise EngineError(
                f"the name of a table has printable characters, at most {_NAME_BYTES} bytes of "
                f"them, got {table!r:.80}"
            )
        try:
            parameters = conninfo_to_dict(uri)
        except ProgrammingError:  # its message quotes pieces of the address
            parameters = None
        # After a # in a password, the rest of it would be taken for a table, or the first of it
        # for a port.
        if parameters is None or "@" in table:
            raise EngineError(
                f"PostgreSQL cannot read the address; it must be like {_FORM}, with %23 for # and "
                "%40 for @ in the password, and no @ in the name of the table"
            )
        return cls(parameters=parameters, table=table)

    @property
    def server(self) -> str:
        """Host and port."""
        host = self.parameters.get("host") or self.parameters.get("hostaddr") or "the local socket"
        return f"{host}:{self.parameters.get('port', 5432)}"

    def __str__(self) -> str:
        return f"the index '{self.table}' in PostgreSQL at {self.server}"


def _missing(error: ImportError) -> EngineError:
    return EngineError(
        f"PostgreSQL needs packages that are not there ({error}): {install_command('pgvector')}"
    )


def _connect(address: Address) -> "Connection[Any]":
    try:
        import pgvector.psycopg  # noqa: F401  # translate_errors before there is a connection
        import psycopg
    except ImportError as error:
        raise _missing(error) from error
    settings = {**_CONNECTION, **address.parameters, "client_encoding": "utf8"}
    try:
        # Statements are not prepared on the server: poolers take that badly, and a plan made for
        # one filter or one set of priors is not good for all.
        connection = psycopg.connect(**settings, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise EngineError(
            f"cannot connect to PostgreSQL at {address.server}: {reason(error)}; see that the "
            "server runs there, and that user, password and database are right"
        ) from error
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    return connection


@contextmanager
def opening(address: Address) -> Iterator["Connection[Any]"]:
    """A new connection, closed again if what is done with it fails."""
    connection = _connect(address)
    try:
        with translate_errors(address, connection):
            connection.execute(_TIMEOUT)
            yield connection
    except BaseException:
        connection.close()
        raise


@contextmanager
def translate_errors(address: Address, connection: "Connection[Any]") -> Iterator[None]:
    """What PostgreSQL refuses, as an error that names the index, and says what to do."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        if connection.closed or error.sqlstate in _ENDED:
            connection.close()
            raise EngineError(
                f"{address}: the connection was lost ({reason(error)}); what was being written "
                "is there as a whole or not at all, and the next call connects again"
            ) from error
        advice = _ADVICE.get(error.sqlstate or "")
        message = f"{address} cannot be used: {reason(error)}"
        raise EngineError(f"{message}; {advice}" if advice else message) from error


def reason(error: Any) -> str:
    """The first thing that PostgreSQL says; what follows it can quote rows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return str(error.diag.message_primary or (lines[0] if lines else type(error).__name__))


def register(connection: "Connection[Any]") -> None:
    """Lets a connection read and write vectors."""
    from pgvector.psycopg import register_vector

    register_vector(connection)
