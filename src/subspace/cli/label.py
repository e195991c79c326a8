"""`subspace label`: labels texts that have no labels."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from subspace.cli.arguments import Commands, add_store, check_file, refuse_without
from subspace.cli.label_by_hand import (
    add_by_hand_arguments,
    label_by_hand,
    pick_alone,
    refuse_by_hand,
)
from subspace.cli.label_language_model import add_language_model_arguments, make_language_model
from subspace.cli.terminal import count, short_id
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.labelling import Annotator, AnnotatorSettings, LabelledTexts

# Repeated from `subspace.labelling`, so that `subspace --help` does not import numpy.
_FACTORS, _BY, _LANGUAGE_MODEL = "complexity,specificity,style", "features", "language-model"
_PERSON = "person"


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "label",
        help="label texts that have no labels",
        description="Labels texts and writes them as JSONL that `subspace fit` reads. Every label "
        "names the annotator that gave it (`origins`), so that training can give it less weight "
        "(`data.origin_weights`). Human labels stay. If several annotators have a label, the first "
        "one's is taken, and their agreement is printed. --by person asks in the terminal. The "
        "same command continues an interrupted run.",
        epilog="example: subspace label --input F.jsonl --output runs/labelled.jsonl "
        "--by features,checkpoint --checkpoint checkpoints/minilm --report runs/agreement.md",
    )
    parser.add_argument("--input", required=True, metavar="F", help="JSONL with `id` and `text`")
    parser.add_argument("--output", required=True, metavar="G", help="JSONL file to write")
    parser.add_argument(
        "--factors",
        metavar="A,B,...",
        help=f"factors to label; --by person needs them, as they can be any (default: {_FACTORS})",
    )
    parser.add_argument(
        "--by",
        metavar="A,B,...",
        help="annotators, the most trusted one first: features (counted in the text), checkpoint "
        "(heads of a model), clusters (topics, from the raw embedding), language-model (an "
        "endpoint); or person alone, who is asked in the terminal for one text at a time (default: "
        f"{_BY})",
    )
    parser.add_argument(
        "--checkpoint",
        metavar="K",
        help="model of --by checkpoint and of --pick, whose encoder --by clusters takes too: a "
        "folder, a model that comes with the package (minilm), or a hub id",
    )
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="where the checkpoint's encoder lies (folder or hub id); without --checkpoint, the "
        "encoder of --by clusters (default: minilm)",
    )
    parser.add_argument(
        "--layers",
        default="-1",
        metavar="N,...",
        help="hidden layers to store while --by clusters encodes without --checkpoint; give those "
        "that the later fit reads (default: the last)",
    )
    add_store(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace human labels too")
    parser.add_argument(
        "--report", metavar="F.md", help="file to write the agreement of the annotators to"
    )
    add_by_hand_arguments(parser)
    add_language_model_arguments(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.labelling import AnnotatorSettings

    names = _read_names(_BY if arguments.by is None else arguments.by, option="--by")
    settings = AnnotatorSettings(
        checkpoint=arguments.checkpoint,
        encoder=arguments.encoder,
        layers=_read_layers(arguments.layers),
        store=arguments.store,
    )
    given = arguments.factors
    factors = None if given is None else _read_names(given, option="--factors")
    check_file(arguments.output)
    if _PERSON in names:
        if len(names) > 1:
            raise ConfigError(
                "--by: a person works alone; let the others label into another file, or this one's "
                "output (labels by a person stay)"
            )
        label_by_hand(arguments, factors=factors, settings=settings)
    elif arguments.pick is not None and arguments.by is None:
        pick_alone(arguments, factors=factors, settings=settings)
    else:
        refuse_by_hand(arguments)
        _label(arguments, names=names, factors=factors, settings=settings)


def _label(
    arguments: argparse.Namespace,
    *,
    names: Sequence[str],
    factors: Sequence[str] | None,
    settings: "AnnotatorSettings",
) -> None:
    from subspace.labelling import label_file

    if _LANGUAGE_MODEL not in names:
        sent = ("base_url", "model", "rubric", "prices", "yes")
        refuse_without(arguments, *sent, need="--by language-model")
    if not {"checkpoint", "clusters"} & set(names):
        refuse_without(arguments, "checkpoint", "encoder", need="--by checkpoint or --by clusters")
    factors = factors or _FACTORS.split(",")
    by: list[str | Annotator] = [
        make_language_model(arguments, factors=factors) if name == _LANGUAGE_MODEL else name
        for name in names
    ]
    if arguments.report is not None:
        _check_report(arguments.report)
    labelled = label_file(
        arguments.input,
        arguments.output,
        by=by,
        factors=factors,
        settings=settings,
        overwrite=arguments.overwrite,
        report=arguments.report,
        progress=True,
    )
    _print(labelled, output=arguments.output)


def _read_names(text: str, *, option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(names):
        raise ConfigError(f"{option} must read like A,B, got {text!r}")
    return names


def _read_layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ConfigError(f"--layers must read like 0,1,3,6, got {text!r}") from None


def _check_report(path: str) -> None:
    try:
        check_file(path)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--output", "--report", 1)) from error


def _print(labelled: "LabelledTexts", *, output: str) -> None:
    from subspace.labelling import agreement_table

    if labelled.agreements:
        print(agreement_table(labelled.agreements))
    for factor, counts in labelled.count_origins().items():
        print(f"{factor}: " + ", ".join(f"{number} by {by}" for by, number in counts.items()))
    without = labelled.unlabelled
    if without:
        named = ", ".join(map(short_id, without[:5])) + (", ..." if len(without) > 5 else "")
        noun = "text is" if len(without) == 1 else "texts are"
        print(f"{len(without)} {noun} left out without a label: {named}")
    print(f"{count(len(labelled.records) - len(without), 'labelled text')} -> {output}")
