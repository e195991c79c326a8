"""`subspace COMMAND ...`: parses the arguments and hands over to one module per command."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import NoReturn

from subspace.cli import (
    adapt,
    add,
    bench,
    delete,
    discover,
    embed,
    explore,
    export,
    feedback,
    index,
    label,
    presets,
    probe,
    project,
    quickstart,
    rewrite,
    search,
    serve,
    show,
    update,
)
from subspace.cli import list as list_  # not Python's own
from subspace.cli.terminal import ReadableFormatter, checked_output, prepare_streams, readable
from subspace.errors import DISTRIBUTION, SubspaceError

_TRAINING = ("fit", "validate", "test")
_DESCRIPTION = """\
Splits text embeddings into named blocks (topic, style, complexity, specificity, or your own) and
searches with a weight per block.

A fit reads a YAML file:
  subspace fit --config configs/demo.yaml
  subspace fit --config configs/demo.yaml --config configs/sgd.yaml    (by gradient descent)
  subspace validate | test --config ... --ckpt_path OUTPUT/last.ckpt   (what the latter wrote)
  (`subspace fit --help` lists every key)

Using a checkpoint needs neither a YAML file nor the trainer:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
        0 on success, 2 after an error that the user can correct (printed to standard error; a full
        disk behind standard output is one), 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    handler = logging.StreamHandler()
    handler.setFormatter(ReadableFormatter("%(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    try:
        with checked_output():
            _run(arguments)
    except SubspaceError as error:
        print(f"subspace: {readable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "subspace: interrupted; vectors stay stored, and a fit goes on from its last epoch "
            "with --ckpt_path OUTPUT/last.ckpt",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # `subspace search ... | head`
        sys.stderr.close()
        return 0
    return 0


def _run(arguments: Sequence[str]) -> None:
    if arguments and arguments[0] in _TRAINING:
        from subspace.cli.fit import run_training  # takes seconds to import

        run_training(arguments)
        return
    parsed = _make_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = parsed.run
    run(parsed)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show what was given in readable length."""

    def error(self, message: str) -> NoReturn:
        super().error(readable(message))


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="subspace",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"subspace {version(DISTRIBUTION)}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        adapt,
        embed,
        project,
        probe,
        discover,
        index,
        add,
        update,
        delete,
        list_,
        show,
        search,
        explore,
        serve,
        feedback,
        presets,
        bench,
        label,
        quickstart,
        rewrite,
        export,
    ):
        command.add_command(commands)
    return parser
