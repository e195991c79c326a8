"""`subspace explore`: serves a local page on which the weights of a query can be changed."""

import argparse
import contextlib

from subspace.cli.arguments import Commands, add_checkpoint, add_usage, history_options


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "explore",
        help="move the weights of a query on a local page",
        description="Serves a page to this machine only: a query; sliders for blocks, recency, "
        "importance and relevance; the ranking beside that of the default weights; the heat maps "
        "of a separation report; and a map of every block. Nothing is sent anywhere. Ctrl-C stops "
        "it.",
        epilog="example: subspace explore --checkpoint checkpoints/demo --index runs/demo/index "
        "--report runs/demo/report",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--index", required=True, metavar="INDEX", help="the folder or address of the index"
    )
    add_usage(parser, required=False)
    parser.add_argument(
        "--report", metavar="DIR", help="folder that `subspace probe` wrote: shows its heat maps"
    )
    parser.add_argument(
        "--data",
        metavar="F",
        help="JSONL with `id`, `text` and `factors`: colours the maps by these labels instead of "
        "those in the index",
    )
    parser.add_argument(
        "--port",
        type=int,
        default=8050,
        help="port of the page; the next free one if it is in use (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.explore.explorer import open_explorer

    with open_explorer(
        arguments.checkpoint,
        arguments.index,
        encoder=arguments.encoder,
        usage=arguments.usage,
        report=arguments.report,
        data=arguments.data,
        port=arguments.port,
        **history_options(arguments, create=False),
    ) as explorer:
        if explorer.port != arguments.port:
            print(f"port {arguments.port} is in use, so this is at {explorer.port}")
        print(f"{explorer.address} (Ctrl-C stops it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            explorer.serve()
