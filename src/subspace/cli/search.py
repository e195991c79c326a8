"""`subspace search`: finds the best documents with a weight per block."""

import argparse
import contextlib
import gc
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from subspace.cli.arguments import (
    Commands,
    add_bandit,
    add_checkpoint,
    add_index,
    add_namespace,
    add_usage,
    history_options,
    open_bandit,
    read_filters,
    read_namespace,
    read_pairs,
    refuse_without,
)
from subspace.cli.terminal import one_line, print_json, short_id, shorten
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.retrieval import Hit, Index, Like, Results
    from subspace.retrieval.queries import Query

# Characters of a text that are shown.
_WIDTH = 110

_log = logging.getLogger(__name__)


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "search",
        help="search an index with weights per block",
        description="Prints the best texts for a query, each with its score and what every block "
        "adds to it. A block that --weights does not name counts 0; without --weights the "
        "model's default weights count, and blocks that --compose names. Recency and importance "
        "count with --riv or --preset, and come from a usage log (`subspace feedback` writes it).",
        epilog="example: subspace search --checkpoint checkpoints/demo --index runs/index "
        '--query "how do I prune roses" --weights topic=0.7,complexity=0.3 --preset balanced '
        "--usage runs/usage.db",
    )
    add_checkpoint(parser)
    add_index(parser)
    _add_queries(parser)
    _add_unlike(parser)
    _add_weights(parser)
    parser.add_argument("-k", type=int, default=10, help="how many hits (default: %(default)s)")
    parser.add_argument(
        "--candidates",
        type=int,
        metavar="N",
        help="let recency and importance order only the N best by relevance",
    )
    parser.add_argument(
        "--where",
        action="append",
        metavar="NAME=VALUE",
        help="only texts with this metadata, or with this member of a list; given twice with one "
        "name: either value. NAME>=VALUE, >, <= and < are ranges",
    )
    add_usage(parser, required=False)
    add_namespace(
        parser,
        help="whose uses count, such as one agent of several (default: those without a name)",
    )
    add_bandit(parser)
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say in words why each hit stands where it stands, and what would move it up",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for machines")
    parser.set_defaults(run=_run)


def _add_queries(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--query", metavar="TEXT", help="what to search for")
    parser.add_argument("--like", metavar="ID", help="more like this item of the index")
    parser.add_argument(
        "--compose",
        action="append",
        metavar="BLOCK=TEXT",
        help="what a block is to be like, one for each block; BLOCK=@ID names an item",
    )
    parser.add_argument(
        "--queries", metavar="F", help="JSONL of queries (`id` and `text`), searched together"
    )


def _add_unlike(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unlike",
        action="append",
        metavar="TEXT",
        help="what hits are not to be like; @ID names an item; can be given several times",
    )
    parser.add_argument(
        "--unlike-block",
        action="append",
        metavar="BLOCK=TEXT",
        help="what hits are not to be like in one block; BLOCK=@ID names an item; can be given "
        "several times",
    )
    parser.add_argument(
        "--unlike-weight",
        type=float,
        metavar="U",
        help="how much the mean of these takes away, where the query adds 1 (default: 0.25)",
    )


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        metavar="B=W,...",
        help="such as topic=0.7,style=0.1, or a YAML file (name.yaml) with such weights or a table "
        "of recency, importance and relevance by block",
    )
    parser.add_argument(
        "--keywords",
        type=float,
        metavar="W",
        default=0.0,
        help="weight of keyword search (BM25) beside the blocks, such as 0.3 (default: 0); for an "
        "index in a folder",
    )
    parser.add_argument(
        "--riv", metavar="R,I,V", help="recency, importance and relevance, such as 0.15,0.15,0.7"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="these three by name (`subspace presets` lists them), or auto: the bandit's choice",
    )
    parser.add_argument(
        "--scope",
        choices=["block", "item", "both"],
        help="whether recency and importance spread to what is alike in a block, or are of each "
        "item by itself, or both side by side (default: block)",
    )
    parser.add_argument(
        "--toward",
        metavar="F=C,...",
        help="more or less of a factor or of a class, such as complexity=-1,style:formal=0.5: a "
        "standard deviation of it weighs so many times one of relevance; with --candidates it "
        "orders those alone",
    )


def _run(arguments: argparse.Namespace) -> None:
    # Importing the encoder creates millions of objects that stay alive. Garbage collection during
    # the import frees nothing and takes a quarter of a cold start. `freeze` avoids a collection at
    # exit that takes as long.
    gc.disable()
    try:
        _search(arguments)
    finally:
        gc.freeze()
        gc.enable()


def _search(arguments: argparse.Namespace) -> None:
    queries = _read_queries(arguments)
    if arguments.namespace is not None and arguments.usage is None:
        raise ConfigError("--namespace is of a usage log: give --usage")
    if arguments.preset != "auto":
        refuse_without(arguments, "bandit", "arms", "seed", need="--preset auto")
    elif arguments.usage is None:
        raise ConfigError(
            "--preset auto needs --usage: the usage log in which it notes what it chose; it is "
            "made where there is none"
        )
    with contextlib.ExitStack() as stack:
        _answer(arguments, queries, index=_open(arguments, stack=stack))


def _answer(arguments: argparse.Namespace, queries: "dict[str, Query]", *, index: "Index") -> None:
    weights, preset = _read_weights(arguments, index)
    options: dict[str, Any] = {
        "k": arguments.k,
        "candidates": arguments.candidates,
        "where": read_filters(arguments.where or []),
        "namespace": read_namespace(arguments),
        "weights": weights,
        "preset": preset,
        "keywords": arguments.keywords,
        **_read_unlike(arguments),
    }
    if arguments.scope == "both":
        if arguments.toward is not None:
            raise ConfigError("--toward goes with one scope: block or item")
        pairs = [index.compare(query, **options) for query in queries.values()]
        results = [found for pair in pairs for found in pair.values()]
        names = [name for name in queries for _ in range(2)]
    else:
        results = index.search_batch(
            list(queries.values()),
            scope=arguments.scope or "block",
            toward=arguments.toward,
            **options,
        )
        names = list(queries)
    _say_without_effect(arguments, results)
    if arguments.json:
        rows = _as_json(names, results, explained=arguments.explain)
        several = arguments.queries or arguments.scope == "both"
        print_json(rows if several else rows[0])
        return
    for name, found in zip(names, results, strict=True):
        shown = str(queries[name]) if isinstance(queries[name], str) else name
        _show(shown, found, toward=arguments.toward, explained=arguments.explain)


def _say_without_effect(arguments: argparse.Namespace, results: "list[Results]") -> None:
    """Warns of options that order nothing, as relevance alone counts."""
    if arguments.toward is not None or any(found.weights.uses_history for found in results):
        return
    if any(found.arm for found in results):  # another search may be given another arm
        return
    for name in ("scope", "candidates"):
        if getattr(arguments, name) is not None:
            _log.warning(
                "--%s orders nothing here: relevance alone counts; give recency and importance a "
                "weight (--preset, --riv)%s",
                name,
                ", or --toward" if name == "candidates" else "",
            )


def _open(arguments: argparse.Namespace, *, stack: contextlib.ExitStack) -> "Index":
    from subspace.model import load
    from subspace.retrieval import Index

    bandit = None
    if arguments.preset == "auto":
        bandit = open_bandit(arguments)
        stack.callback(bandit.close)
    index = Index.open(
        arguments.index,
        load(arguments.checkpoint, encoder=arguments.encoder),
        usage=arguments.usage,
        bandit=bandit,
        **history_options(arguments, create=bandit is not None),
    )
    return stack.enter_context(index)


def _read_queries(arguments: argparse.Namespace) -> "dict[str, Query]":
    """Reads the queries, by the name under which they are shown."""
    from subspace.retrieval import Like

    names = ("query", "like", "compose", "queries")
    given = [name for name in names if getattr(arguments, name) is not None]
    if len(given) != 1:
        raise ConfigError("give one of --query, --like, --compose and --queries")
    if arguments.query is not None:
        return {arguments.query: arguments.query}
    if arguments.like is not None:
        return {f"like {arguments.like}": Like(arguments.like)}
    if arguments.compose is not None:
        parts = read_pairs(arguments.compose, option="--compose")
        if len(parts) < len(arguments.compose):
            raise ConfigError("--compose: a block is given twice")
        composed = {block: _read_part(text) for block, (text,) in parts.items()}
        return {", ".join(arguments.compose): composed}
    from subspace.data.retrieval_sets import read_documents

    return {document.id: document.text for document in read_documents(arguments.queries)}


def _read_part(text: str) -> "str | Like":
    """Reads a text, or `@ID` for an item of the index."""
    from subspace.retrieval import Like

    return Like(text[1:]) if text.startswith("@") else text


def _read_unlike(arguments: argparse.Namespace) -> dict[str, Any]:
    """Reads what hits are not to be like, in the form that `Index.search` takes."""
    unlike: list[Query] = [_read_part(text) for text in arguments.unlike or []]
    by_block = read_pairs(arguments.unlike_block or [], option="--unlike-block")
    unlike += [{block: _read_part(text)} for block, texts in by_block.items() for text in texts]
    if arguments.unlike_weight is None:
        return {"unlike": unlike}
    if not unlike:
        raise ConfigError("--unlike-weight needs --unlike or --unlike-block")
    return {"unlike": unlike, "unlike_weight": arguments.unlike_weight}


def _read_weights(arguments: argparse.Namespace, index: "Index") -> "tuple[Any, str | None]":
    """Reads the weights and the preset in the form that `Index.search` takes."""
    from subspace.retrieval import Weights

    text = arguments.weights
    if text is not None and text.endswith((".yaml", ".yml")):
        text = Weights.read(text, layout=index.layout, default=index.model.default_weights)
    if arguments.riv is None:
        return text, arguments.preset
    if arguments.preset is not None or isinstance(text, Weights):
        raise ConfigError("--riv goes with weights by block, not with --preset or a YAML file")
    parts = [part for part in (text, f"riv={arguments.riv}") if part]
    return ",".join(parts), None


def _as_json(
    names: list[str], results: "list[Results]", *, explained: bool
) -> list[dict[str, Any]]:
    from subspace.retrieval import explain

    def row(found: "Results", hit: "Hit") -> dict[str, Any]:
        more = {"explanation": explain(found, hit.id).text} if explained else {}
        return {**asdict(hit), **more}

    return [
        {
            "query": name,
            "query_id": found.query_id,
            "scope": found.scope,
            "arm": found.arm,
            "namespace": found.namespace,
            "weights": found.weights.as_dict(),
            "keywords": found.keywords,
            "hits": [row(found, hit) for hit in found],
        }
        for name, found in zip(names, results, strict=True)
    ]


def _show(query: str, found: "Results", *, toward: str | None, explained: bool) -> None:
    table = found.weights
    named = " ".join(
        f"{name}={sum(values):.6g}"
        for name, *values in zip(
            table.layout, table.recency, table.importance, table.relevance, strict=True
        )
    )
    said = f" keywords={found.keywords:.6g}" if found.keywords else ""
    print(f"query: {shorten(query, width=_WIDTH)}\nweights: {named}{said}")
    if toward is not None:
        print(f"toward: {one_line(toward)}")
    if table.uses_history or found.arm:
        shares = {part: sum(getattr(table, part)) for part in ("recency", "importance")}
        parts = " ".join(f"{part}={value:.2f}" for part, value in shares.items())
        arm = f", chosen: {found.arm}" if found.arm else ""
        print(f"of which {parts}, {found.scope} scope{arm}; query id {found.query_id}")
    if not found:
        print("no hits")
    for rank, hit in enumerate(found, start=1):
        print(
            f"{rank:2d}. {hit.score:+.4f}  [{_parts(hit, table.uses_history)}]  {short_id(hit.id)}"
        )
        print(f"      {shorten(hit.text, width=_WIDTH)}")
        if explained:
            _explain(found, hit.id)


def _explain(found: "Results", item: str) -> None:
    """Prints why a hit stands where it stands; the first line is in the ranking already."""
    from subspace.retrieval import explain

    for line in explain(found, item).text.splitlines()[1:]:
        print(f"      {one_line(line)}")


def _parts(hit: "Hit", history: bool) -> str:
    parts = " ".join(f"{name} {part:+.3f}" for name, part in hit.by_block().items())
    if not history:
        return parts
    return parts + " | " + " ".join(f"{name} {part:+.3f}" for name, part in hit.by_part().items())
