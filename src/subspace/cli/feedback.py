"""`subspace feedback`: logs uses of items, and ratings of searches."""

import argparse
import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.cli.arguments import (
    Commands,
    add_bandit,
    add_namespace,
    add_usage,
    open_bandit,
    read_namespace,
    read_single_pairs,
    refuse_without,
)
from subspace.cli.terminal import count
from subspace.errors import ConfigError
from subspace.outputs import refuse_same_file

if TYPE_CHECKING:
    from subspace.retrieval import UsageLog

_SCALE = "1,5"


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "feedback",
        help="log what was used and how well it did",
        description="Adds uses of items to a usage log, which is where recency and importance come "
        "from; and tells the bandit how good the hits of a search with --preset auto were: as a "
        "whole, or hit by hit if --used, --query-id and --bandit are given together. Also "
        "reads and writes the log as JSONL, one use a line: item, time, success, query, namespace.",
        epilog="example: subspace feedback --usage runs/usage.db --used roses=1 --used slugs=0.2",
    )
    add_usage(parser, required=True)
    parser.add_argument("--index", metavar="INDEX", help="refuse items that are not in this index")
    parser.add_argument(
        "--used",
        action="append",
        default=[],
        metavar="ID[=SUCCESS]",
        help="an item that was used now, and its success between 0 and 1; may be given again; an "
        "id in double quotes may hold '='",
    )
    parser.add_argument(
        "--query-id",
        metavar="Q",
        help="the id of the search that found them; each item of a search counts once",
    )
    parser.add_argument(
        "--pin",
        action="append",
        default=[],
        metavar="ID",
        help="an item that counts as used just now, and with success, from now on",
    )
    parser.add_argument(
        "--unpin",
        action="append",
        default=[],
        metavar="ID",
        help="a pinned item that no longer does",
    )
    parser.add_argument(
        "--forget",
        action="append",
        default=[],
        metavar="Q",
        help="the id of a search whose uses and ratings are removed from the log for good; what a "
        "checkpoint learned from them stays until it is adapted again",
    )
    add_namespace(
        parser,
        help="whose uses, pins and searches these are, such as one agent of several: they count in "
        "searches with the same --namespace; --export then writes those alone",
    )
    parser.add_argument(
        "--success", type=float, metavar="S", help="how good that search was, between 0 and 1"
    )
    parser.add_argument(
        "--ratings",
        metavar="PART=N,...",
        help="the same as ratings of recency, importance and relevance, on --scale",
    )
    parser.add_argument(
        "--scale",
        metavar="WORST,BEST",
        help=f"what ratings go from and to (default: {_SCALE})",
    )
    add_bandit(parser)
    parser.add_argument("--import", dest="source", metavar="F", help="add the uses of a JSONL file")
    parser.add_argument("--export", metavar="F", help="write all uses to a JSONL file")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.retrieval import UsageLog

    writes = bool(arguments.used or arguments.source or arguments.pin or arguments.unpin)
    if not (writes or arguments.forget or arguments.export or _rates(arguments)):
        raise ConfigError(
            "say what to do: --used, --pin, --unpin, --forget, --success or --ratings, --import, "
            "or --export"
        )
    _refuse_without_effect(arguments)
    # All arguments are checked before anything is written.
    uses = dict(_read_use(text) for text in arguments.used)
    if len(uses) < len(arguments.used):
        raise ConfigError("--used: an item is given twice")
    both = set(arguments.pin) & set(arguments.unpin)
    if both:
        raise ConfigError(f"--pin and --unpin: {min(both)!r} is given in both")
    namespace = read_namespace(arguments)
    refuse_same_file(
        *(("--" + name, getattr(arguments, name)) for name in ("usage", "bandit", "arms")),
        ("--import", arguments.source),
        ("--export", arguments.export),
    )
    successes = {name: success for name, success in uses.items() if success is not None}
    by_hit = bool(arguments.bandit and arguments.query_id and successes) and not _rates(arguments)
    if _rates(arguments) or by_hit:
        _check_rating(arguments)
    if arguments.index is not None:
        _check_items(arguments.index, [*uses, *arguments.pin])
    with UsageLog.open(
        arguments.usage, clock=arguments.clock, create=writes or arguments.clock is not None
    ) as log:
        if _rates(arguments):
            print(f"rated: {_rate(arguments, log, namespace=namespace)}")
        if by_hit:
            print(_compare(arguments, log, successes, namespace=namespace))
        _write(arguments, log, uses=uses, namespace=namespace)


def _refuse_without_effect(arguments: argparse.Namespace) -> None:
    refuse_without(
        arguments,
        *("recency", "half_life", "recency_floor", "importance_floor"),
        need="a search, which reads the log (`subspace search --usage`)",
    )
    if arguments.ratings is None:
        refuse_without(arguments, "scale", need="--ratings")
    if not _rates(arguments):
        if not (arguments.used and arguments.query_id):
            need = "--success or --ratings, or --used with --query-id"
            refuse_without(arguments, "bandit", "arms", "seed", need=need)
        if not arguments.used:
            refuse_without(arguments, "query_id", need="--used, --success or --ratings")
    if not arguments.used and not arguments.pin:
        refuse_without(arguments, "index", need="--used or --pin, whose items it checks")


def _write(
    arguments: argparse.Namespace,
    log: "UsageLog",
    *,
    uses: dict[str, float | None],
    namespace: str,
) -> None:
    """Writes uses and pins to the log, reads a file into it, and writes it to a file."""
    target = arguments.usage
    if uses:
        added = log.add(uses.items(), query=arguments.query_id, namespace=namespace)
        before = f" ({len(uses) - added} counted before)" if added < len(uses) else ""
        print(f"{count(added, 'use')} -> {target}{before}")
    if arguments.pin:
        print(f"{count(log.pin(arguments.pin, namespace=namespace), 'pin')} -> {target}")
    if arguments.unpin:
        print(f"{count(log.unpin(arguments.unpin, namespace=namespace), 'pin')} removed")
    if arguments.forget:
        gone = log.forget(arguments.forget, namespace=namespace)
        print(f"{count(gone, 'use')} forgotten")
    if arguments.source:
        read = log.import_jsonl(arguments.source, namespace=namespace)
        print(f"{count(read, 'use')} -> {target}")
    if arguments.export:
        named = None if arguments.namespace is None else namespace
        written = log.export_jsonl(arguments.export, namespace=named)
        print(f"{count(written, 'use')} -> {arguments.export}")


def _check_rating(arguments: argparse.Namespace) -> None:
    if arguments.query_id is None:
        raise ConfigError("--success and --ratings are of a search: give its --query-id")
    if arguments.success is not None and arguments.ratings is not None:
        raise ConfigError("give --success or --ratings, not both")
    if arguments.bandit is None:
        raise ConfigError("--bandit is needed: the file that the search was given")
    if not Path(arguments.bandit).is_file():
        raise ConfigError(f"there is no bandit {arguments.bandit}: give the one of the search")


def _rates(arguments: argparse.Namespace) -> bool:
    return arguments.success is not None or arguments.ratings is not None


def _rate(arguments: argparse.Namespace, log: "UsageLog", *, namespace: str) -> str:
    """Passes the rating of a search to the bandit, and returns the arm that was rated."""
    from subspace.retrieval.usage.bandit import learn

    ratings = arguments.success
    if arguments.ratings is not None:
        pairs = read_single_pairs(arguments.ratings.split(","), option="--ratings")
        ratings = {name: _to_number(value) for name, value in pairs.items()}
    low, _, high = (arguments.scale or _SCALE).partition(",")
    bandit = open_bandit(arguments)
    try:
        return learn(
            bandit,
            log=log,
            query_id=arguments.query_id,
            ratings=ratings,
            namespace=namespace,
            scale=(_to_number(low), _to_number(high)),
        )
    finally:
        bandit.close()


def _compare(
    arguments: argparse.Namespace,
    log: "UsageLog",
    successes: dict[str, float],
    *,
    namespace: str,
) -> str:
    """Passes the success of hits to the bandit, and says what became of it.

    Uses of other searches are logged, and teach nothing.
    """
    from subspace.retrieval.usage.bandit import learn_from_hits

    query = arguments.query_id
    if not log.awaits_rating(query, namespace=namespace):
        return (
            f"the bandit learned nothing: it did not choose the weights of query '{query}' in this "
            "namespace, or was told of it before"
        )
    bandit = open_bandit(arguments)
    try:
        arm = learn_from_hits(
            bandit, log=log, query_id=query, successes=successes, namespace=namespace
        )
        return f"compared by its hits: {arm}"
    finally:
        bandit.close()


def _read_use(text: str) -> tuple[str, float | None]:
    """Reads `ID` or `ID=SUCCESS`; an id in double quotes, as in JSON, may hold any characters."""
    if text.startswith('"'):
        try:
            name, end = json.JSONDecoder().raw_decode(text)
        except ValueError as error:
            raise ConfigError(
                f"--used: the quotes around an id must close, got {text!r}"
            ) from error
        success = text[end:]
        if success and not success.startswith("="):
            raise ConfigError(f"--used must read like ID or ID=SUCCESS, got {text!r}")
        return name, _to_number(success[1:]) if success else None
    name, equals, success = text.rpartition("=")
    if not equals:
        return text, None
    try:
        return name, float(success)
    except ValueError as error:
        raise ConfigError(
            f"--used: a number is needed after '=', got {success!r}; an id that holds '=' is put "
            f"in quotes: {json.dumps(text, ensure_ascii=False)}"
        ) from error


def _to_number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"a number is needed, got {text!r}") from error


def _check_items(target: str, ids: list[str]) -> None:
    from subspace.errors import QueryError
    from subspace.retrieval.engines import open_engine, show_target

    with closing(open_engine(target)) as engine:
        there = {document.id for document in engine.fetch(ids).documents}
    unknown = [name for name in ids if name not in there]
    if unknown:
        raise QueryError(f"not in the index {show_target(target)}: {', '.join(unknown[:5])}")
