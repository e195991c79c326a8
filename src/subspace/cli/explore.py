"""`subspace explore`: a local page to move the weights on."""

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.cli.arguments import Commands, add_checkpoint, add_usage, history_options
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.explore.session import Session


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "explore",
        help="move the weights of a query on a local page",
        description="Serves a page on this machine alone: a query, sliders for blocks, recency, "
        "importance and relevance, the ranking beside that of equal weights, what the separation "
        "report says, and a map of every block. Nothing is sent anywhere. Ctrl-C stops it.",
        epilog="example: subspace explore --checkpoint checkpoints/demo --index runs/demo/index "
        "--report runs/demo/report",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--index", required=True, metavar="INDEX", help="the folder or address of the index"
    )
    add_usage(parser, required=False)
    parser.add_argument(
        "--report", metavar="DIR", help="folder that `subspace probe` wrote: shows its heat map"
    )
    parser.add_argument(
        "--data",
        metavar="F",
        help="JSONL with `id`, `text` and `factors`: colours the maps by these labels instead of "
        "those that the index keeps",
    )
    parser.add_argument(
        "--port", type=int, default=8050, help="of the page, or the next free (default: 8050)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    try:
        from subspace.explore.app import Explored, make_app
        from subspace.explore.server import HOST, bind, serve
    except ModuleNotFoundError as error:
        if error.name not in ("dash", "flask", "plotly", "werkzeug"):
            raise
        raise ConfigError(
            "subspace explore needs the package dash: pip install 'subspace[explore]'"
        ) from error
    from subspace.data.retrieval_sets import read_documents
    from subspace.explore.maps import make_maps
    from subspace.explore.separation_heat_maps import read_matrices
    from subspace.model import load_checkpoint

    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(bind(arguments.port))
        checkpoint = load_checkpoint(arguments.checkpoint)
        labelled = arguments.data and read_documents(arguments.data)
        matrices = arguments.report and read_matrices(arguments.report, checkpoint=checkpoint)
        session = stack.enter_context(_open(arguments))
        engine = session.searcher.index.engine
        maps = session.run(lambda: make_maps(engine, labelled=labelled))
        app = make_app(Explored(session, maps, matrices, Path(arguments.checkpoint).name))
        port = bound.getsockname()[1]
        if port != arguments.port:
            print(f"port {arguments.port} is in use, so this is at {port}")
        print(f"http://{HOST}:{port} (Ctrl-C stops it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            serve(app, bound)


def _open(arguments: argparse.Namespace) -> "Session":
    from subspace.explore.session import Session

    return Session.open(
        arguments.checkpoint,
        arguments.index,
        usage=arguments.usage,
        encoder_model=arguments.encoder,
        **history_options(arguments, create=False),
    )
