"""Explorer: opens the index, the optional report and a local port, and serves the page."""

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
from subspace.retrieval.usage.history import IMPORTANCE_FLOOR, RECENCY_FLOOR

if TYPE_CHECKING:
    from dash import Dash

# Packages that the extra `explore` installs.
_PACKAGES = ("dash", "flask", "plotly", "werkzeug")


@dataclass(frozen=True, eq=False)
class Explorer:
    """The page, ready to be served.

    Attributes:
        app: The page and its callbacks.
        socket: Listening socket at a port of the loopback interface.
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
        """Answers requests until the process is interrupted."""
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
    recency_floor: float = RECENCY_FLOOR,
    importance_floor: float = IMPORTANCE_FLOOR,
    report: Path | str | None = None,
    data: Path | str | None = None,
    port: int = 8050,
) -> Iterator[Explorer]:
    """Opens the index and makes the page; closes the index after the block.

    Args:
        checkpoint: The model of the index, as `subspace.load` takes it.
        index: Folder or address of the index.
        encoder: Folder of the encoder, if not the one that the checkpoint names.
        usage: File of the usage log, from which recency and importance are computed.
        recency: Decay of the recency of an item with age; see `HistorySettings`.
        half_life: Age at which a use counts half in the traces; see `HistorySettings`.
        recency_floor: Recency below which a confirmed item does not fall; see `HistorySettings`.
        importance_floor: Share of its weight that a rating keeps; see `HistorySettings`.
        report: Folder that `subspace probe` wrote for the same checkpoint.
        data: JSONL with ids and labels that colour the maps; the index's metadata if None.
        port: From 1 to 65535; if it is in use, the next free one is taken.

    Raises:
        ConfigError: The package dash is not installed, the port or the report cannot be used, or
            no text of the index is labelled in `data`.
        CheckpointError: There is no such checkpoint.
        EncoderError: The encoder cannot be loaded.
        RecordError: Lines of `data` are wrong.
        IndexFolderError: There is no index, it is damaged, or was built with another model.
        EngineError: A server cannot be reached, or has no such index.
        UsageLogError: The usage log cannot be opened.
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
            return Index.open(
                index,
                model,
                usage=usage,
                recency=recency,
                half_life=half_life,
                recency_floor=recency_floor,
                importance_floor=importance_floor,
            )

        with Session(open_index) as session:
            maps = session.run(lambda: make_maps(session.index.blocks.engine, labelled=labelled))
            app = make_app(AppState(session, maps, matrices, Path(checkpoint).name))
            yield Explorer(app=app, socket=bound)
