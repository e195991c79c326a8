"""Arguments of `subspace label --by person` and `--pick`, and what they print."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from subspace.cli.terminal import count
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.labelling import AnnotatorSettings
    from subspace.labelling.person import Interview
    from subspace.labelling.pick_texts import PickedTexts


def add_by_hand_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments in a group."""
    group = parser.add_argument_group(
        "by hand",
        "--by person asks for each of the --factors of one text at a time. Every answer is on disk "
        "at once, and the same command goes on after it. Answer by a number, or by a class (its "
        "digit, or its name). An empty line skips, u undoes, m shows more of a long text, q stops. "
        "For example: --by person --factors register --classes casual,formal --pick 30 "
        "--checkpoint minilm",
    )
    group.add_argument(
        "--classes",
        action="append",
        default=[],
        metavar="A,B,...",
        help="classes to choose from, instead of giving a number; with several factors "
        "FACTOR=A,B,..., once for each",
    )
    group.add_argument(
        "--pairs",
        action="store_true",
        help="ask which of two texts has more of the factor, and write comparisons",
    )
    group.add_argument(
        "--pick",
        type=int,
        metavar="N",
        help="choose N texts that are worth labelling: spread over what --checkpoint says of the "
        "(first) factor and over topics, without near-duplicates; without --by, write them to "
        "--output as they are",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of --pick and of the order of --pairs (default: %(default)s)",
    )


def label_by_hand(
    arguments: argparse.Namespace,
    *,
    factors: Sequence[str] | None,
    settings: "AnnotatorSettings",
) -> None:
    """Asks for labels or comparisons on standard input, and prints what came of it.

    Raises:
        ConfigError: An argument is missing, wrong, or of other annotators.
    """
    from subspace.labelling.person import Screen, compare_by_person, label_by_person

    if factors is None:
        raise ConfigError(
            "--by person needs --factors: name what to ask for, such as --factors register"
        )
    _refuse_of_others(arguments)
    classes = _read_classes(arguments.classes, factors=factors)
    if arguments.pairs and classes:
        raise ConfigError("--classes is not for --pairs, which are answered by 1 or 2")
    ids = None
    if arguments.pick is not None:
        ids = _pick(arguments, factors=factors, settings=settings).ids
    screen = Screen(replies=sys.stdin, shown=sys.stdout)
    source, output = arguments.input, arguments.output
    if arguments.pairs:
        asked = compare_by_person(
            source, output, factors=factors, screen=screen, ids=ids, seed=arguments.seed
        )
    else:
        asked = label_by_person(
            source, output, factors=factors, screen=screen, classes=classes, ids=ids
        )
    _print(asked, what="comparison" if arguments.pairs else "label", output=output)


def pick_alone(
    arguments: argparse.Namespace,
    *,
    factors: Sequence[str] | None,
    settings: "AnnotatorSettings",
) -> None:
    """Writes texts that are worth labelling.

    Raises:
        ConfigError: An argument is missing, wrong, or of --by person.
    """
    _refuse_of_person(arguments)
    _refuse_of_others(arguments)
    _pick(arguments, factors=factors or (), settings=settings, alone=True)


def refuse_by_hand(arguments: argparse.Namespace) -> None:
    """Raises if arguments are given that other annotators do not have.

    Raises:
        ConfigError: One is given.
    """
    if arguments.pick is not None:
        raise ConfigError("--pick goes with --by person, or without --by")
    _refuse_of_person(arguments)


def _refuse_of_person(arguments: argparse.Namespace) -> None:
    for name in ("classes", "pairs"):
        if getattr(arguments, name):
            raise ConfigError(f"--{name} needs --by person")


def _refuse_of_others(arguments: argparse.Namespace) -> None:
    for name in ("overwrite", "report"):
        if getattr(arguments, name):
            raise ConfigError(f"--{name} is of annotators other than a person; leave it out")


def _pick(
    arguments: argparse.Namespace,
    *,
    factors: Sequence[str],
    settings: "AnnotatorSettings",
    alone: bool = False,
) -> "PickedTexts":
    from subspace.labelling.pick_texts import pick_file, pick_texts

    if arguments.checkpoint is None:
        raise ConfigError("--pick needs --checkpoint, such as minilm")
    if arguments.pick < 1 or arguments.seed < 0:
        raise ConfigError(
            f"--pick must be 1 or more and --seed 0 or more, got {arguments.pick} and "
            f"{arguments.seed}"
        )
    options: dict[str, Any] = {
        "count": arguments.pick,
        "model": settings.model,
        "encoder": settings.cached_encoder,
        "factors": factors,
        "seed": arguments.seed,
        "progress": True,
    }
    if alone:
        picked = pick_file(arguments.input, arguments.output, **options)
    else:
        picked = pick_texts(arguments.input, **options)
    over = "topics alone" if picked.spread is None else f"{picked.spread} and topics"
    print(f"picked {count(len(picked.ids), 'text')}, spread over {over}")
    if len(picked.ids) < picked.count:
        print(f"that is fewer than {picked.count}: all others say almost the same as one of them")
    if alone:
        print(f"{count(len(picked.ids), 'text')} to label -> {arguments.output}")
    return picked


def _read_classes(given: Sequence[str], *, factors: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        factor, equals, names = text.rpartition("=")
        if not equals and len(factors) == 1:
            factor = factors[0]
        classes = tuple(name.strip() for name in names.split(","))
        if factor not in factors or factor in found or not all(classes):
            raise ConfigError(
                "--classes must read like casual,formal, or with several factors like "
                f"{factors[0]}=casual,formal once for each, got {text!r}"
            )
        found[factor] = classes
    return found


def _print(asked: "Interview", *, what: str, output: str) -> None:
    skipped = f", {asked.skipped} skipped" if asked.skipped else ""
    print(f"{count(asked.answered, what)} by hand{skipped} -> {output}")
    if not asked.finished:
        print("the same command goes on from here")
    elif asked.skipped:
        print("all are asked; the same command asks for what was skipped again")
