"""`subspace serve`: a memory as a service, over MCP and HTTP."""

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.cli.arguments import (
    Commands,
    add_bandit,
    add_checkpoint,
    add_usage,
    history_options,
    open_bandit,
    refuse_without,
)
from subspace.errors import ConfigError, install_command

if TYPE_CHECKING:
    from subspace.data import Record
    from subspace.model import Model
    from subspace.serve.memory import Memory
    from subspace.serve.server import Limits

_TOKEN = "SUBSPACE_TOKEN"
_MIB = 1 << 20


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "serve",
        help="serve a memory to agents, over MCP and HTTP",
        description="Holds a model and an index, and answers agents: search, explain, report use, "
        "add, update, delete, list, pin. Over HTTP the Model Context Protocol is at /mcp, the API "
        "page at /docs, metrics at /metrics; with --stdio it is a program that an agent starts "
        "itself. Listens to this machine alone unless told otherwise. Every change is on disk "
        "before it is answered.",
        epilog="example: subspace serve --checkpoint minilm --index runs/memory --watch skills",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--index", required=True, metavar="INDEX", help="the folder or address of the index"
    )
    parser.add_argument(
        "--watch",
        metavar="DIR",
        help="a folder of skills (X/SKILL.md) and Markdown notes: makes the index of it if there "
        "is none, and keeps the two equal",
    )
    parser.add_argument(
        "--create", action="store_true", help="make an empty index if there is none"
    )
    add_usage(parser, required=False)
    add_bandit(parser)
    parser.add_argument(
        "--namespace",
        default="",
        metavar="NAME",
        help="whose use is counted, if a request does not say; /mcp?namespace=NAME says it for an "
        "agent",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="the mix of recency, importance and relevance of searches that name neither weights "
        "nor a preset (`subspace presets` lists them); auto learns the mix from reports of use, "
        "in INDEX.bandit.db unless --bandit says where",
    )
    parser.add_argument(
        "--learn-liked",
        action="store_true",
        help="learn from reports of use what is liked in each namespace: toward={'liked': 1} then "
        "finds texts like those that served well; off unless given",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="refuse whatever would change something"
    )
    parser.add_argument(
        "--stdio", action="store_true", help="speak MCP over standard input and output"
    )
    _add_address(parser)
    _add_limits(parser)
    parser.set_defaults(run=_run)


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="interface to listen at; beyond this machine only with a token (default: %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=8077, help="0 for any that is free (default: %(default)s)"
    )
    parser.add_argument(
        "--token-file",
        metavar="F",
        help="file with the token that clients must send (Authorization: Bearer TOKEN); or in the "
        f"environment variable {_TOKEN}",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-megabytes",
        type=float,
        default=4.0,
        metavar="N",
        help="largest request (default: %(default)g)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="longest time of a request in seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="requests that run at once, without changes (default: the cores)",
    )


def _run(arguments: argparse.Namespace) -> None:
    try:
        import fastapi  # noqa: F401
        import mcp  # noqa: F401
        import watchfiles  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"`subspace serve` needs more: {install_command('serve')}") from error
    # Standard output belongs to the protocol with --stdio, and to nobody without.
    logging.basicConfig(
        format="%(levelname)s: %(message)s", level=logging.INFO, stream=sys.stderr, force=True
    )
    for name in ("httpx", "mcp", "uvicorn", "watchfiles", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if arguments.stdio:
        # A thread that reads standard input cannot be woken; whatever was answered is on disk.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    else:
        # The server stops by itself and then raises the signal again: all is closed before the end.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        _serve(arguments, stack=stack)


def _serve(arguments: argparse.Namespace, *, stack: contextlib.ExitStack) -> None:
    from subspace.model import load
    from subspace.retrieval import Index
    from subspace.serve.memory import Memory
    from subspace.serve.server import bind, check_address, make_http_server, serve_stdio
    from subspace.serve.watching import follow, watching

    limits = _read_limits(arguments)
    bound, token = None, None
    if not arguments.stdio:
        token = _read_token(arguments)
        check_address(arguments.host, token=token)
        bound = stack.enter_context(contextlib.closing(bind(arguments.host, arguments.port)))
    _check_index(arguments)
    _say("loading the model")
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    encoder = model.open_encoder()
    encoder.prepare()
    model.encode_query(["ready"])  # the first search would wait for the weights
    _make_missing(arguments, model)
    open_index = partial(Index.open, arguments.index, model, **_index_options(arguments))
    memory = Memory(
        open_index(),
        namespace=arguments.namespace,
        preset=arguments.preset,
        followed=arguments.watch is not None,
        read_only=arguments.read_only,
        learn_liked=arguments.learn_liked,
        reopen=open_index,
    )
    stack.callback(memory.close)
    if encoder.backend == "torch":
        _share_cores(limits)
    if arguments.watch is not None:
        told = follow(memory, Path(arguments.watch))
        stack.enter_context(watching(memory, Path(arguments.watch), told=told))
    _say_ready(memory, stdio=arguments.stdio)
    if bound is None:
        serve_stdio(memory, limits=limits)
        return
    host, port = bound.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _say(f"http://{shown}:{port}/docs; agents: http://{shown}:{port}/mcp (Ctrl-C stops it)")
    server = make_http_server(memory, host=arguments.host, token=token, limits=limits)
    server.run(sockets=[bound])


def _check_index(arguments: argparse.Namespace) -> None:
    """Raises unless the index and what is beside it can be served; nothing is made or loaded."""
    from subspace.retrieval.engines import is_missing
    from subspace.retrieval.index import AUTO
    from subspace.retrieval.presets import find_preset

    if arguments.watch is not None and not Path(arguments.watch).is_dir():
        raise ConfigError(f"--watch: there is no folder {arguments.watch}")
    if arguments.read_only and (arguments.watch is not None or arguments.create):
        raise ConfigError("--read-only goes with neither --watch nor --create, which write")
    if arguments.bandit is None and arguments.preset != AUTO:
        refuse_without(arguments, "arms", "seed", need="--bandit")
    if arguments.preset not in (None, AUTO):
        find_preset(arguments.preset)
    if is_missing(arguments.index) and arguments.watch is None and not arguments.create:
        raise ConfigError(
            f"there is no index {arguments.index}; --create makes an empty one, --watch DIR one of "
            "a folder of skills and notes"
        )
    _choose_files(arguments, learns=arguments.preset == AUTO)


def _index_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns keyword arguments of `Index.open` and `Index.create`: usage log and bandit."""
    options = history_options(arguments, create=not arguments.read_only)
    if arguments.bandit is not None:
        options["bandit"] = open_bandit(arguments)
    return {"usage": arguments.usage, **options}


def _make_missing(arguments: argparse.Namespace, model: "Model") -> None:
    """Makes the index of the watched folder, or an empty one, if there is none."""
    from subspace.retrieval import Index
    from subspace.retrieval.engines import is_missing

    with _only_creator(arguments.index):
        if is_missing(arguments.index):
            records = () if arguments.watch is None else _read_notes(arguments.watch)
            Index.create(arguments.index, model, records).close()


def _read_notes(folder: str) -> "Sequence[Record]":
    """Reads what can be read of a folder, and warns of the rest: one bad file stops no agent."""
    from subspace.data import read_notes, scan_notes

    notes = scan_notes(folder)
    if not notes.records:
        return read_notes(folder)  # raises, and says why
    for problem in notes.problems:
        logging.getLogger(__name__).warning("left out: %s", problem)
    return notes.records


@contextlib.contextmanager
def _only_creator(target: str) -> Iterator[None]:
    """Lets one service at a time find that there is no index, and make it."""
    from filelock import FileLock

    from subspace.retrieval.engines import is_missing

    if not is_missing(target):
        yield
        return
    folder = Path(target).absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--index: cannot make {folder.parent}: {error}") from error
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        yield


def _choose_files(arguments: argparse.Namespace, *, learns: bool) -> None:
    """Chooses where uses are logged, and where a bandit learns, if nobody says."""
    usage = arguments.usage or _beside(arguments.index, "usage")
    if arguments.read_only and arguments.usage is None and usage and not Path(usage).exists():
        usage = None  # nothing is made
    arguments.usage = usage
    if arguments.learn_liked and usage is None:
        raise ConfigError("--learn-liked reads what was used: say with --usage where it is logged")
    if arguments.preset is not None and usage is None:
        raise ConfigError("--preset counts what was used: say with --usage where that is logged")
    if not learns:
        return
    if arguments.read_only:
        raise ConfigError("--preset auto learns, so it does not go with --read-only")
    arguments.bandit = arguments.bandit or _beside(arguments.index, "bandit")
    if arguments.bandit is None:
        raise ConfigError("--preset auto learns: say with --bandit where that is kept")


def _beside(target: str, what: str) -> str | None:
    """Returns where uses are logged, or the bandit learns, if nobody says: beside the folder."""
    from subspace.retrieval.engines import is_folder

    return f"{target.rstrip('/')}.{what}.db" if is_folder(target) else None


def _read_limits(arguments: argparse.Namespace) -> "Limits":
    from subspace.serve.server import Limits

    for name in ("max_megabytes", "timeout", "threads"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
    return Limits(
        most_bytes=int(arguments.max_megabytes * _MIB),
        seconds=arguments.timeout,
        threads=arguments.threads,
    )


def _read_token(arguments: argparse.Namespace) -> str | None:
    """Reads the token; it is never an argument, as every user of the machine sees these."""
    if arguments.token_file is None:
        return os.environ.get(_TOKEN) or None
    try:
        return Path(arguments.token_file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file: cannot read {arguments.token_file}: {error}") from error


def _share_cores(limits: "Limits") -> None:
    """Gives each request its share of the cores: more threads than cores wait for each other."""
    import torch

    cores = os.cpu_count() or 1
    torch.set_num_threads(max(1, cores // (limits.threads or cores)))


def _say_ready(memory: "Memory", *, stdio: bool) -> None:
    about = memory.about()
    _say(f"{about.items} items")
    if stdio:
        _say("speaking MCP over standard input and output")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
