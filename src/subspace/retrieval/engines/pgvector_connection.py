"""The address of an index in PostgreSQL, and connections to it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from subspace.errors import EngineError, install_command

if TYPE_CHECKING:
    from psycopg import Connection

# PostgreSQL's limit on names.
_NAME_BYTES = 63
# Parameters of the connection that the address can override. The time limits detect a server that
# cannot be reached, or that disappeared without closing the connection.
_CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "application_name": "subspace",
}
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE"
# A time limit for every statement, unless the address, the user or the server sets one.
_TIMEOUT = """\
SELECT set_config('statement_timeout', '300s', false)
WHERE current_setting('statement_timeout') = '0'
"""
# Advice in error messages, by SQLSTATE.
_ADVICE = {
    "42501": "ask an administrator for the right to do so",
    "40P01": "nothing was changed; try again",
    "57014": "give it more time: ?options=-cstatement_timeout%3D30min in the address",
}
# SQLSTATEs of a server that has ended the connection, or is shutting down or starting.
_ENDED = {"57P01", "57P02", "57P03", "57P05"}


@dataclass(frozen=True)
class Address:
    """The address of an index; as a text it holds no user and no password.

    Attributes:
        parameters: Connection parameters of libpq.
        table: Name of the table.
    """

    parameters: Mapping[str, Any] = field(repr=False)
    table: str

    @classmethod
    def parse(cls, target: str) -> "Address":
        """Reads `postgresql://...#TABLE`; error messages repeat only the table.

        Raises:
            EngineError: The address cannot be read, or a package is not installed.
        """
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
        # A # in a password cuts it in two: the second part is read as the table, the first as the
        # port.
        if parameters is None or "@" in table:
            raise EngineError(
                f"PostgreSQL cannot read the address; it must be like {_FORM}, with %23 for # and "
                "%40 for @ in the password, and no @ in the name of the table"
            )
        return cls(parameters=parameters, table=table)

    @property
    def server(self) -> str:
        """Host and port, for messages."""
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
        import pgvector.psycopg  # noqa: F401  # fails before there is a connection
        import psycopg
    except ImportError as error:
        raise _missing(error) from error
    settings = {**_CONNECTION, **address.parameters, "client_encoding": "utf8"}
    try:
        # Statements are not prepared on the server: connection poolers may not support that, and a
        # plan for one filter or one set of priors can be slow for another.
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
    """Opens a connection, and closes it if the body of the `with` statement fails."""
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
    """Turns errors of PostgreSQL into an `EngineError` that names the index and gives advice."""
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
    """Returns the first part of PostgreSQL's message; later parts can quote rows."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return str(error.diag.message_primary or (lines[0] if lines else type(error).__name__))


def register(connection: "Connection[Any]") -> None:
    """Lets a connection read and write vectors."""
    from pgvector.psycopg import register_vector

    register_vector(connection)
