"""`subspace adapt`: adapts a checkpoint to labels of a few texts, or to queries."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_namespace,
    add_store,
    read_namespace,
    refuse_without,
)
from subspace.cli.terminal import count
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.data import Comparison, Rating, Record
    from subspace.model import Model


_LABELS = ("labels", "comparisons", "usage", "ratings")


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "adapt",
        help="learn from a few labels of your own texts, or from queries",
        description="Writes a checkpoint that is adapted to your own texts, in seconds. With "
        "--labels or --comparisons, about thirty of them, blocks order and tell apart your texts "
        "better; with --usage or --ratings, a direction is learned from the hits that were liked; "
        "an index that was built before goes on serving. With --pairs, a search without "
        "weights is adapted to queries, and to documents that answer them; indexes are built again "
        "then.",
        epilog="example: subspace adapt --checkpoint minilm --index runs/index "
        "--labels my/labels.jsonl --output checkpoints/mine",
    )
    add_checkpoint(parser)
    add_store(parser)
    parser.add_argument(
        "--labels",
        metavar="F",
        help="JSONL with `id`, `text` and `factors`: 5 or more labels of a factor, which are "
        "numbers, or classes with two texts of each",
    )
    parser.add_argument(
        "--factors",
        metavar="A,B,...",
        help="the factors of --labels and --comparisons to learn (default: all)",
    )
    parser.add_argument(
        "--comparisons",
        metavar="F",
        help="JSONL with `factor`, `more` and `less`, the ids of two texts of --labels or --index",
    )
    parser.add_argument(
        "--usage",
        metavar="F",
        help="a usage log, whose ratings of hits are learned from: --toward liked=1 then finds "
        "texts like those that served well",
    )
    add_namespace(parser, help="whose ratings in --usage (default: those without a namespace)")
    parser.add_argument(
        "--ratings",
        metavar="F",
        help="JSONL with `query`, `item` and `success` (0 to 1), as `subspace feedback --export` "
        "writes it",
    )
    parser.add_argument(
        "--as",
        dest="liked",
        metavar="NAME",
        help="the factor that hits with more success have more of (default: liked)",
    )
    parser.add_argument(
        "--index",
        metavar="INDEX",
        help="the index that the labels are for: blocks are centred on its texts, and what it "
        "holds is not encoded again",
    )
    parser.add_argument(
        "--pairs",
        metavar="DIR",
        help="a folder with corpus.jsonl, queries.jsonl and, if there are any, judgements in "
        "qrels.tsv or qrels/*.tsv (the layout of BEIR); where the set has splits, queries of the "
        "split 'train' alone are learned from",
    )
    parser.add_argument(
        "--depth",
        choices=["block", "layers"],
        default="block",
        help="where directions are looked for: in their blocks, so that indexes stay as they are "
        "(the default); or in all layers, too, which is worth it from 200 labels on and takes new "
        "indexes, of stored vectors",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="the new checkpoint")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.model import load
    from subspace.model.checkpoint_folder import check_new_target

    labelled = any(getattr(arguments, name) is not None for name in _LABELS)
    if labelled == (arguments.pairs is not None):
        raise ConfigError("give --labels or --comparisons, --usage or --ratings, or else --pairs")
    if arguments.pairs is not None and arguments.index is not None:
        raise ConfigError("--index goes with --labels or --comparisons; --pairs has documents")
    if arguments.labels is None and arguments.depth == "layers":
        raise ConfigError(
            "--depth layers needs --labels: comparisons and ratings turn directions in the blocks"
        )
    if arguments.labels is None and arguments.comparisons is None:
        refuse_without(arguments, "factors", need="--labels or --comparisons")
    if arguments.usage is None and arguments.ratings is None:
        refuse_without(arguments, "liked", need="--usage or --ratings")
    if arguments.usage is None:
        refuse_without(arguments, "namespace", need="--usage")
    if (
        arguments.index is not None
        and Path(arguments.index).resolve() == Path(arguments.output).resolve()
    ):
        raise ConfigError(
            f"--output {arguments.output} is the index: a checkpoint needs its own folder"
        )
    check_new_target(arguments.output)  # before the work that it is the target of
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    if labelled:
        _adapt_to_labels(arguments, model)
    else:
        _adapt_to_queries(arguments, model)


def _adapt_to_labels(arguments: argparse.Namespace, model: "Model") -> None:
    records, comparisons = _read(arguments)
    ratings = _read_ratings(arguments)
    named = _named(records, comparisons, ratings)
    again = [name for name in model.adapted.get("factors", {}) if name in named]
    if again:
        print(
            f"'{again[0]}' was adapted before: labels that it knows already count twice; better "
            "adapt the first checkpoint, with all labels",
            file=sys.stderr,
        )
    if arguments.depth == "layers":
        adapted = _adapt_layers(arguments, model, records, comparisons=comparisons, ratings=ratings)
    elif arguments.index is not None:
        from subspace.retrieval import Index

        with Index.open(arguments.index, model) as index:
            adapted = index.adapt(records, comparisons=comparisons, ratings=ratings)
    else:
        from subspace.model.embed_texts import open_stored_encoder

        encoder = open_stored_encoder(model, store=arguments.store)
        vectors = encoder.encode([record.text for record in records], progress=True)
        adapted = model.adapt(records, comparisons=comparisons, ratings=ratings, vectors=vectors)
    card = {"name": Path(arguments.output).resolve().name} if ratings else {}
    adapted.save(arguments.output, **card)
    for factor in named:
        print(_say(factor, adapted, before=model, depth=arguments.depth))
    stay = adapted.projection.digest == model.projection.digest
    told = (
        f"indexes that {arguments.checkpoint} searches serve it"
        if stay
        else "build indexes again with it (stored vectors are not computed again)"
    )
    print(f"checkpoint -> {arguments.output}; {told}")


def _adapt_layers(
    arguments: argparse.Namespace,
    model: "Model",
    records: "Sequence[Record]",
    *,
    comparisons: "Sequence[Comparison]",
    ratings: "Sequence[Rating]",
) -> "Model":
    """Adapts a model with raw vectors, of the texts of --index as well."""
    from dataclasses import replace

    from subspace.model.embed_texts import open_stored_encoder

    encoder = open_stored_encoder(model, store=arguments.store)
    around = None
    if arguments.index is not None:
        from subspace.retrieval import Index

        with Index.open(arguments.index, model) as index:
            sample = index.blocks.sample.documents
            ids = {name for one in comparisons for name in (one.more, one.less)}
            missing = (ids | {one.item for one in ratings}) - {record.id for record in records}
            others = index.blocks.engine.fetch(sorted(missing)).documents
        records = [*records, *(replace(record, factors={}) for record in others)]
        around = encoder.encode([record.text for record in sample], progress=True)
    vectors = encoder.encode([record.text for record in records], progress=True)
    return model.adapt(
        records,
        comparisons=comparisons,
        ratings=ratings,
        vectors=vectors,
        corpus=around if around is not None and len(around) else None,
        depth="layers",
    )


def _named(
    records: "Sequence[Record]",
    comparisons: "Sequence[Comparison]",
    ratings: "Sequence[Rating]" = (),
) -> list[str]:
    """Returns the factors that are labelled, compared or rated, in order."""
    labelled = [factor for record in records for factor in record.factors]
    others = [one.factor for told in (comparisons, ratings) for one in told]
    return list(dict.fromkeys([*labelled, *others]))


def _say(factor: str, adapted: "Model", *, before: "Model", depth: str) -> str:
    told = adapted.adapted["factors"][factor]
    said = f"{factor}: {_given(told)}, trusted {told['trust']:.0%}"
    if not told["trust"]:
        stays = "it stays as it was" if factor in before.heads else "no direction was learned"
        return f"{said}; {stays}, as labels cannot be predicted from the others"
    if factor not in adapted.layout.names:
        follows = [f"{name} {value:+.2f}" for name, value in told.get("follows", {}).items()]
        said += f"; it goes along with {', '.join(follows)}" if follows else ""
        return said + f"; a direction alone: --toward {_direction_of(factor, adapted)}=1"
    if "layers" in told:
        said += f", {told['layers']:.0%} of it from the layers"
    elif depth == "layers":
        said += ", nothing of it from the layers"
    gone = set(before.directions) - set(adapted.directions)
    if any(name.split(":")[0] == factor for name in gone):
        said += "; what it was before has no direction any more"
    if adapted.heads[factor].classes and factor not in adapted.nearness:
        said += "; directions alone, as a search without weights uses the block"
    return said


def _given(told: "Mapping[str, Any]") -> str:
    """Says how much was told of a factor."""
    if "feedback" in told:
        searches = told["feedback"].values()
        rated = count(sum(map(len, searches)), "rating")
        return f"{rated} in {count(len(searches), 'search', plural='searches')}"
    return " and ".join(
        count(told[f"{what}s"], what) for what in ("label", "comparison") if told[f"{what}s"]
    )


def _direction_of(factor: str, adapted: "Model") -> str:
    return next(name for name in adapted.directions if name.split(":")[0] == factor)


def _read(arguments: argparse.Namespace) -> "tuple[Sequence[Record], Sequence[Comparison]]":
    from dataclasses import replace

    from subspace.data import read_comparisons, read_records

    records = () if arguments.labels is None else read_records(arguments.labels)
    comparisons = () if arguments.comparisons is None else read_comparisons(arguments.comparisons)
    if arguments.factors is None:
        return records, comparisons
    wanted = [name.strip() for name in arguments.factors.split(",")]
    missing = [name for name in wanted if name not in _named(records, comparisons)]
    if missing:
        raise ConfigError(
            f"--factors: nothing is labelled with '{missing[0]}', only with "
            f"{', '.join(_named(records, comparisons)) or 'nothing'}"
        )
    kept = [
        replace(one, factors={f: label for f, label in one.factors.items() if f in wanted})
        for one in records
    ]
    return kept, [one for one in comparisons if one.factor in wanted]


def _read_ratings(arguments: argparse.Namespace) -> "list[Rating]":
    """Reads the ratings of --ratings and of --usage."""
    from subspace.data.ratings import LIKED, read_ratings

    factor = LIKED if arguments.liked is None else arguments.liked.strip()
    if not factor or set(factor) & set(":,="):
        raise ConfigError("--as: give the factor a name, without ':', ',' and '='")
    found: list[Rating] = []
    if arguments.ratings is not None:
        found += read_ratings(arguments.ratings, factor=factor)
    if arguments.usage is not None:
        from subspace.retrieval import UsageLog
        from subspace.retrieval.usage.rated_hits import read_rated_hits

        namespace = read_namespace(arguments)
        with UsageLog.open(arguments.usage, create=False) as log:
            rated = read_rated_hits(log, namespace=namespace, factor=factor)
        if not rated:
            whose = f" of namespace '{namespace}'" if namespace else " without a namespace"
            raise ConfigError(
                f"--usage: {arguments.usage} has no rated hits of searches{whose}: report what "
                "served with the id of the search (`subspace feedback --query-id`)"
            )
        found += rated
    return found


def _adapt_to_queries(arguments: argparse.Namespace, model: "Model") -> None:
    from subspace.data.retrieval_sets import read_retrieval_set
    from subspace.fitting import adapt

    folder = Path(arguments.pairs)
    data = read_retrieval_set(folder, judged=False)
    name = folder.resolve().name
    adapted = adapt(model, data, name=name, store=arguments.store, progress=True)
    adapted.save(arguments.output)
    queries = [query for query in data.queries if data.split(query) == "train"]
    judged = sum(bool(data.relevant(query)) for query in queries)
    print(
        f"{count(len(queries), 'query', plural='queries')}, {judged} with judgements, "
        f"{count(len(data.documents), 'document')}"
    )
    gone = ", ".join(factor for factor in model.heads if factor not in adapted.heads)
    if gone:
        print(f"it predicts no labels of {gone} any more")
    print(f"checkpoint -> {arguments.output}; build indexes again with it")
