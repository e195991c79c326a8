"""`subspace COMMAND ...`: parses the arguments and hands over to one module per command."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

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
from subspace.cli.terminal import one_line, prepare_streams
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
        0 on success, 2 after an error that the user can correct (printed to standard error), 130
        after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prepare_streams()
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        if arguments and arguments[0] in _TRAINING:
            from subspace.cli.fit import run_training  # takes seconds to import

            run_training(arguments)
            return 0
        parsed = _make_parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], None] = parsed.run
        run(parsed)
    except SubspaceError as error:
        lines = map(one_line, str(error).split("\n"))
        print("subspace: " + "\n".join(lines), file=sys.stderr)
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


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
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
