"""`subspace label`: labels for texts that nobody labelled."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.cli.arguments import Commands, add_store, check_file
from subspace.cli.label_language_model import add_language_model_arguments
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.data.retrieval_sets import Document
    from subspace.encoder.cached_encoder import CachedEncoder
    from subspace.labelling.annotator import Annotation, Annotator
    from subspace.labelling.texts import Text

_MEASURES, _CHECKPOINT, _LANGUAGE_MODEL = "measures", "checkpoint", "language-model"
_CLUSTERS = "clusters"
_ANNOTATORS = (_MEASURES, _CHECKPOINT, _CLUSTERS, _LANGUAGE_MODEL)
_DEFAULT_FACTORS = "complexity,specificity,style"


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "label",
        help="label texts that nobody labelled",
        description="Writes texts as labelled JSONL that `subspace fit` reads. Every label says "
        "where it comes from (`origins`), so that training can give it less weight "
        "(`data.origin_weights`). Labels that are there already stay. With several annotators "
        "the first that has a label gives it, and their agreement is reported. An interrupted "
        "run goes on where it was.",
        epilog="example: subspace label --input F.jsonl --output runs/labelled.jsonl "
        "--by measures,checkpoint --checkpoint checkpoints/minilm --report runs/agreement.md",
    )
    parser.add_argument("--input", required=True, metavar="F", help="JSONL with `id` and `text`")
    parser.add_argument("--output", required=True, metavar="G", help="the JSONL file to write")
    parser.add_argument(
        "--factors",
        default=_DEFAULT_FACTORS,
        metavar="A,B,...",
        help="what to label (default: %(default)s)",
    )
    parser.add_argument(
        "--by",
        default=_MEASURES,
        metavar="A,B,...",
        help="measures (what can be counted), checkpoint (its probes), clusters (topics, from "
        "the raw embedding), language-model (an endpoint), or several of them, the most trusted "
        "first (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint", metavar="K", help="the checkpoint of --by checkpoint: a folder or a hub id"
    )
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="where its text encoder lies; of clusters without a checkpoint, which encoder "
        "(default: minilm)",
    )
    parser.add_argument(
        "--layers",
        metavar="N,...",
        help="hidden layers to store for clusters, those of the fit to come (default: the last)",
    )
    add_store(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace labels that a human gave, too"
    )
    parser.add_argument("--report", metavar="F.md", help="write the table of agreement there")
    add_language_model_arguments(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.files import write_lines
    from subspace.labelling.texts import read_texts

    factors = _read_names(arguments.factors, option="--factors")
    output, report = _check_files(arguments)
    texts = read_texts(arguments.input)
    documents = [text.document for text in texts]
    annotators = _open(arguments, documents, factors=factors)
    given = {one.origin: _annotate(one, documents, output=output) for one in annotators}
    lines = [
        text.labelled(
            {origin: annotations[place].factors for origin, annotations in given.items()},
            factors=factors,
            overwrite=arguments.overwrite,
        )
        for place, text in enumerate(texts)
    ]
    write_lines(output, [line for line in lines if line["factors"]])
    for annotator in annotators:
        _partial(output, annotator).unlink(missing_ok=True)
    _say_agreement(texts, given, factors=factors, report=report)
    _say_counts(texts, lines, factors=factors)
    print(f"{sum(bool(line['factors']) for line in lines)} labelled texts -> {output}")


def _read_names(text: str, *, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise ConfigError(f"{option} must read like A,B, got {text!r}")
    return names


def _check_files(arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """The files to write: the labelled texts, and the report if there is one."""
    found: dict[Path, str] = {}
    for option in ("input", "output", "report", "answers"):
        if (given := getattr(arguments, option)) is None:
            continue
        first = found.setdefault(Path(given).resolve(), option)
        if first != option:
            raise ConfigError(f"--{option}: {given} is the --{first} too, which would be lost")
    output = check_file(arguments.output)
    if arguments.report is None:
        return output, None
    try:
        return output, check_file(arguments.report)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--output", "--report", 1)) from error


def _annotate(
    annotator: "Annotator", documents: "Sequence[Document]", *, output: Path
) -> "list[Annotation]":
    from subspace.labelling.resumable import annotate

    if annotator.origin.startswith(_LANGUAGE_MODEL):
        # Its own file of answers knows better what is there: texts that failed are asked again.
        return list(annotator.annotate(documents, progress=True))
    return annotate(annotator, documents, partial=_partial(output, annotator), progress=True)


def _partial(output: Path, annotator: "Annotator") -> Path:
    kind = annotator.origin.partition(":")[0]
    return output.with_name(f".{output.name}.{kind}.partial")


def _open(
    arguments: argparse.Namespace, documents: "Sequence[Document]", *, factors: Sequence[str]
) -> list["Annotator"]:
    """The annotators asked for, each with those of the factors that it knows.

    Clusters are found last, as that is work, and only if topics are asked for.
    """
    from subspace.labelling.clusters import ClustersAnnotator

    kinds = _read_names(arguments.by, option="--by")
    unknown = [kind for kind in kinds if kind not in _ANNOTATORS]
    if unknown:
        raise ConfigError(f"--by: no '{unknown[0]}'; there are {', '.join(_ANNOTATORS)}")
    if _CHECKPOINT in kinds and arguments.checkpoint is None:
        raise ConfigError("--by checkpoint needs --checkpoint")
    made: dict[str, Annotator] = {
        kind: _make(kind, arguments, factors=factors) for kind in kinds if kind != _CLUSTERS
    }
    known = {
        kind: ClustersAnnotator.factors if kind == _CLUSTERS else made[kind].factors
        for kind in kinds
    }
    nobody = [f for f in factors if not any(f in own for own in known.values())]
    if nobody:
        said = "; ".join(f"{kind} {', '.join(own)}" for kind, own in known.items())
        raise ConfigError(f"--factors: nobody labels {', '.join(nobody)} (labelled are, by {said})")
    if _CLUSTERS in kinds and set(factors) & set(ClustersAnnotator.factors):
        encoder = _open_raw(arguments)
        made[_CLUSTERS] = ClustersAnnotator.fit(documents, encoder=encoder, progress=True)
    return [made[kind] for kind in kinds if kind in made and made[kind].factors]


def _make(kind: str, arguments: argparse.Namespace, *, factors: Sequence[str]) -> "Annotator":
    if kind == _LANGUAGE_MODEL:
        from subspace.cli.label_language_model import make_language_model_annotator

        return make_language_model_annotator(arguments, factors)
    if kind == _MEASURES:
        from subspace.labelling.feature_annotator import FACTORS, MeasuresAnnotator

        return MeasuresAnnotator(factors=tuple(f for f in factors if f in FACTORS))
    return _make_checkpoint(arguments, factors=factors)


def _open_raw(arguments: argparse.Namespace) -> "CachedEncoder":
    """The encoder that clusters are found with."""
    from subspace.cli.arguments import open_encoder
    from subspace.encoder import EncoderSpec
    from subspace.encoder.cached_encoder import CachedEncoder
    from subspace.model import load_checkpoint

    if arguments.checkpoint is not None:
        checkpoint = load_checkpoint(arguments.checkpoint)
        return open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    try:
        layers = tuple(int(layer) for layer in (arguments.layers or "-1").split(","))
    except ValueError:
        raise ConfigError(f"--layers must read like 0,1,3,6, got {arguments.layers!r}") from None
    spec = EncoderSpec(model=arguments.encoder or "minilm", layers=layers)
    return CachedEncoder.open(spec, root=arguments.store)


def _make_checkpoint(arguments: argparse.Namespace, *, factors: Sequence[str]) -> "Annotator":
    from subspace.cli.arguments import open_encoder
    from subspace.labelling.checkpoint_annotator import CheckpointAnnotator
    from subspace.model import load_checkpoint
    from subspace.model.linear_heads import load_probes

    checkpoint = load_checkpoint(arguments.checkpoint)
    probes = load_probes(checkpoint.folder, layout=checkpoint.projection.layout)
    return CheckpointAnnotator(
        checkpoint,
        probes,
        encoder=open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store),
        name=Path(arguments.checkpoint).resolve().name,
        factors=[factor for factor in factors if factor in probes.heads],
    )


def _say_agreement(
    texts: Sequence["Text"],
    given: "dict[str, list[Annotation]]",
    *,
    factors: Sequence[str],
    report: Path | None,
) -> None:
    from subspace.labelling.annotator_agreement import agreement_table, compare_annotators

    labels = {origin: [one.factors for one in found] for origin, found in given.items()}
    if any(text.human for text in texts):
        labels = {"human": [text.human for text in texts], **labels}
    agreements = compare_annotators(labels, factors=factors)
    if agreements:
        print(agreement_table(agreements))
    if report is not None:
        said = agreement_table(agreements) if agreements else "Nothing to compare: one annotator."
        try:
            report.write_text(f"# Agreement between annotators\n\n{said}\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--report: cannot write {report}: {error}") from error


def _say_counts(
    texts: Sequence["Text"], lines: Sequence[dict[str, object]], *, factors: Sequence[str]
) -> None:
    from collections import Counter

    for factor in factors:
        counts = Counter(
            line.get("origins", {}).get(factor, "human")  # type: ignore[attr-defined]
            for line in lines
            if factor in line["factors"]  # type: ignore[operator]
        )
        print(f"{factor}: " + ", ".join(f"{count} by {by}" for by, count in counts.items()))
    without = [text.id for text, line in zip(texts, lines, strict=True) if not line["factors"]]
    if without:
        named = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        noun = "text is" if len(without) == 1 else "texts are"
        print(f"{len(without)} {noun} left out without a label: {named}")
