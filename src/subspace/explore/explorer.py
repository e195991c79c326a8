"""Opens the page: an index, its maps, perhaps a report, and a port of this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

from subspace.data.retrieval_sets import read_documents
from subspace.errors import ConfigError, install_command
from subspace.explore.maps import make_maps
from subspace.explore.separation_heat_maps import read_matrices
from subspace.explore.session import Session
from subspace.model import load
from subspace.retrieval import Decay, Index

if TYPE_CHECKING:
    from dash import Dash

# What the extra `explore` installs.
_PACKAGES = ("dash", "flask", "plotly", "werkzeug")


@dataclass(frozen=True, eq=False)
class Explorer:
    """The page, ready to be served.

    Attributes:
        app: The page and its callbacks.
        socket: Listens at a port of the loopback interface.
    """

    app: "Dash"
    socket: socket

    @property
    def port(self) -> int:
        """Port of the page."""
        return int(self.socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Address of the page, for a browser on this machine."""
        return f"http://{self.socket.getsockname()[0]}:{self.port}"

    def serve(self) -> None:
        """Answers requests until it is interrupted."""
        from subspace.explore.server import serve

        serve(self.app, self.socket)


@contextmanager
def open_explorer(
    checkpoint: Path | str,
    index: Path | str,
    *,
    encoder: str | None = None,
    usage: Path | str | None = None,
    recency: Decay | None = None,
    half_life: float | None = None,
    report: Path | str | None = None,
    data: Path | str | None = None,
    port: int = 8050,
) -> Iterator[Explorer]:
    """Opens everything that the page shows, and closes it after the block.

    Args:
        checkpoint: What `subspace.load` loads the index's model by.
        index: Folder or address of the index.
        encoder: Where the encoder lies, if not where the checkpoint says.
        usage: File of the usage log; recency and importance come from it.
        recency: How the recency of an item falls with age; see `History`.
        half_life: Age at which a use counts half in a block; see `History`.
        report: Folder that `subspace probe` wrote, of the same checkpoint.
        data: JSONL with ids and labels, to colour the maps by; the index's metadata if None.
        port: From 1 to 65535; the next free one is taken if it is in use.

    Raises:
        ConfigError: The package dash is not installed, the port or the report cannot be used, or
            no text of the index is labelled in `data`.
        CheckpointError: There is no such checkpoint.
        EncoderError: The encoder cannot be had.
        RecordError: Lines of `data` are wrong.
        IndexFolderError: There is no index, it is damaged, or was built with another model.
        EngineError: A server cannot be reached, or has no such index.
        UsageLogError: The usage log cannot be used.
    """
    try:
        from subspace.explore.app import AppState, make_app
        from subspace.explore.server import bind
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise ConfigError(
            f"subspace explore needs the package dash: {install_command('explore')}"
        ) from error

    with bind(port) as bound:
        model = load(checkpoint, encoder=encoder)
        labelled = None if data is None else read_documents(data)
        matrices = None if report is None else read_matrices(report, model=model)

        def open_index() -> Index:
            return Index.open(index, model, usage=usage, recency=recency, half_life=half_life)

        with Session(open_index) as session:
            maps = session.run(lambda: make_maps(session.index.blocks.engine, labelled=labelled))
            app = make_app(AppState(session, maps, matrices, Path(checkpoint).name))
            yield Explorer(app=app, socket=bound)
