"""Arguments that several commands share, and functions that read, open and check them."""

import argparse
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.data.metadata import is_scalar
from subspace.errors import ConfigError
from subspace.files import read_yaml
from subspace.outputs import place_of

if TYPE_CHECKING:
    from subspace.retrieval.usage.bandit import Bandit

# NAME=VALUE or NAME>=VALUE, where a name in quotes may hold these signs.
_FILTER = re.compile(
    r'(?:(?P<quoted>"(?:[^"\\]|\\.)*")\s*|(?P<name>[^"=<>][^=<>]*))(?P<sign>>=|<=|=|>|<)(?P<value>.*)',
    re.DOTALL,
)

Commands = argparse._SubParsersAction  # argparse has no public name for this class


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--checkpoint` and `--encoder`."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="K",
        help="a checkpoint folder, a .ckpt file, a model that comes with the package (minilm), or "
        "a hub id (owner/name[@revision])",
    )
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="where the text encoder lies (folder or hub id), if not where the checkpoint says",
    )


def add_encoder_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds `--encoder-dtype`."""
    parser.add_argument(
        "--encoder-dtype",
        choices=["float32", "bfloat16", "auto"],
        help="in what the encoder computes, if not as in training; auto is bfloat16 where the "
        "processor has it and vectors stay what they are (cosine 0.999)",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """Adds `--store`."""
    parser.add_argument(
        "--store",
        default="runs/embeddings",
        metavar="DIR",
        help="folder of computed embeddings; what is there is not computed again "
        "(default: %(default)s)",
    )


def add_index(parser: argparse.ArgumentParser) -> None:
    """Adds `--index`."""
    parser.add_argument(
        "--index", required=True, metavar="INDEX", help="the folder or address of the index"
    )


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Adds `--data` and `--exclude`, which choose labelled sources."""
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="DIR",
        help="files or folders of labelled JSONL, or a folder of such folders",
    )
    parser.add_argument(
        "--exclude", nargs="*", default=[], metavar="NAME", help="sources to leave out"
    )


def add_kin(parser: argparse.ArgumentParser) -> None:
    """Adds `--kin`."""
    parser.add_argument(
        "--kin",
        action="append",
        default=[],
        metavar="A,B",
        help="sources that are much alike and left out together; may be given again",
    )


def add_usage(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Adds `--usage`, `--clock`, `--recency`, `--half-life` and the two floors."""
    parser.add_argument(
        "--usage",
        required=required,
        metavar="F",
        help="the usage log: an SQLite file; logging uses, --clock and --preset auto make it",
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "steps"],
        help="what time a new log counts: seconds, or steps, one for every time something is "
        "logged (default: wall)",
    )
    parser.add_argument(
        "--recency",
        metavar="KIND:SCALE",
        help="how the recency of an item falls: linear:50 (steps), exponential:7d or power:12h "
        "(s, m, h, d or w; default: a linear window of 50 steps or days)",
    )
    parser.add_argument(
        "--half-life",
        metavar="T",
        help="age after which a use counts half in a block: 50, 7d (default: 50 steps or days)",
    )
    parser.add_argument(
        "--recency-floor",
        type=float,
        metavar="R",
        help="recency, from 0 to 1, below which an item that succeeded more than it failed does "
        "not fall in item scope (default: 0.5, that of an item without uses)",
    )
    parser.add_argument(
        "--importance-floor",
        type=float,
        metavar="S",
        help="share, from 0 to 1, of its weight that a success or failure keeps in block scope, "
        "however old it is (default: 0.1)",
    )


def add_namespace(parser: argparse.ArgumentParser, *, help: str) -> None:
    """Adds `--namespace`."""
    parser.add_argument("--namespace", metavar="NAME", help=help)


def read_namespace(arguments: argparse.Namespace) -> str:
    """Returns the namespace that --namespace names; that of every log if it is not given.

    Raises:
        UsageLogError: The name is empty, too long, or has control characters.
    """
    from subspace.retrieval.usage.uses import check_namespace

    return (
        "" if arguments.namespace is None else check_namespace(arguments.namespace, required=True)
    )


def add_bandit(parser: argparse.ArgumentParser) -> None:
    """Adds `--bandit`, `--arms` and `--seed`."""
    parser.add_argument(
        "--bandit",
        metavar="F",
        help="SQLite file of the bandit's posteriors, for --preset auto; made where there is none",
    )
    parser.add_argument(
        "--arms",
        metavar="F",
        help="YAML file of what it chooses from: weights by name; or `blocks`, block weights by "
        "name, each of which goes with every preset (default: the presets); feedback needs the "
        "same as the search that it is about",
    )
    parser.add_argument("--seed", type=int, help="of the bandit's draws")


def refuse_without(arguments: argparse.Namespace, *names: str, need: str) -> None:
    """Raises if an option is given that has no effect without others.

    Args:
        arguments: Parsed arguments; an option that is not given is None, false or empty.
        names: The options, as they are called in `arguments`.
        need: What they need, as the end of the message.

    Raises:
        ConfigError: One is given.
    """
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value is not False and value != []:
            raise ConfigError(f"--{name.replace('_', '-')} has no effect here: it needs {need}")


def history_options(arguments: argparse.Namespace, *, create: bool) -> dict[str, Any]:
    """Returns keyword arguments of a `BlockIndex` that say how its usage log counts.

    These are `recency`, `half_life` (in the time unit of the log) and the floors, if given.

    Args:
        arguments: Parsed arguments, with those of `add_usage`.
        create: Whether to make the usage log if it does not exist.

    Raises:
        ConfigError: An option cannot be read, or is given without a usage log.
        UsageLogError: The log does not exist, or has another clock than --clock says.
    """
    from subspace.retrieval.usage.decay import Decay, parse_duration
    from subspace.retrieval.usage.usage_log import UsageLog

    if arguments.usage is None:
        names = ("clock", "recency", "half_life", "recency_floor", "importance_floor")
        given = [name for name in names if getattr(arguments, name) is not None]
        if given:
            raise ConfigError(f"--{given[0].replace('_', '-')} is of a usage log: give --usage")
        return {}
    create = create or arguments.clock is not None
    with UsageLog.open(arguments.usage, clock=arguments.clock, create=create) as log:
        clock = log.clock
    options: dict[str, Any] = {}
    if arguments.recency is not None:
        options["recency"] = Decay.parse(arguments.recency, clock=clock)
    if arguments.half_life is not None:
        options["half_life"] = parse_duration(arguments.half_life, clock=clock)
    for name in ("recency_floor", "importance_floor"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    return options


def open_bandit(arguments: argparse.Namespace) -> "Bandit":
    """Opens the bandit that --bandit and --arms describe.

    Raises:
        ConfigError: --bandit is not given, or the file of arms cannot be read.
        BanditError: The bandit's file or its arms cannot be used.
    """
    from subspace.retrieval.usage.bandit import WeightBandit
    from subspace.retrieval.usage.factored_bandit import FactoredBandit

    if arguments.bandit is None:
        raise ConfigError("--bandit is needed: the file in which what is learned is kept")
    if arguments.arms is None:
        return WeightBandit(arguments.bandit, seed=arguments.seed)
    arms = _read_arms(arguments.arms)
    if not set(arms) <= {"blocks", "presets"}:
        return WeightBandit(arguments.bandit, arms=arms, seed=arguments.seed)
    presets, blocks = arms.get("presets"), arms.get("blocks")
    if blocks is None:
        return WeightBandit(arguments.bandit, arms=presets, seed=arguments.seed)
    return FactoredBandit(arguments.bandit, blocks=blocks, presets=presets, seed=arguments.seed)


def _read_arms(path: str) -> dict[str, Any]:
    try:
        arms = read_yaml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--arms: cannot read {path}: {error}") from error
    named = isinstance(arms, dict) and all(
        isinstance(name, str) and isinstance(arm, list if name == "presets" else dict)
        for name, arm in arms.items()
    )
    if not named:
        raise ConfigError(
            f"--arms: {path} must hold weights by name, such as `calm: {{preset: balanced, "
            "blocks: {topic: 1}}`, or `blocks: {content: {topic: 1}}` and `presets: [balanced]`"
        )
    return dict(arms)


def read_pairs(given: Sequence[str], *, option: str) -> dict[str, list[str]]:
    """Reads arguments of the form `NAME=VALUE` and returns the values by name.

    Raises:
        ConfigError: An argument does not have this form.
    """
    pairs: dict[str, list[str]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value:
            raise ConfigError(f"{option} must read like NAME=VALUE, got {text!r}")
        pairs.setdefault(name.strip(), []).append(value)
    return pairs


def read_single_pairs(given: Sequence[str], *, option: str) -> dict[str, str]:
    """Reads arguments of the form `NAME=VALUE`, each name once.

    Raises:
        ConfigError: An argument does not have this form, or a name is given twice.
    """
    pairs = read_pairs(given, option=option)
    for name, values in pairs.items():
        if len(values) > 1:
            raise ConfigError(f"{option}: {name!r:.60} is given twice; keep one")
    return {name: values[0] for name, values in pairs.items()}


def read_values(text: str) -> list[str | float | bool]:
    """Returns the metadata values that an argument can stand for.

    5 stands for the number and for the text; "5" in quotes stands for the text alone.
    """
    value = _parse_json(text)
    if isinstance(value, str):
        return [value]
    # A number too large for a float, such as 1e999, can only be a text.
    return [value, text] if isinstance(value, bool | int | float) and is_scalar(value) else [text]


def read_filters(given: Sequence[str]) -> dict[str, Any]:
    """Reads `NAME=VALUE` and ranges such as `NAME>=VALUE` as the filter that a search takes.

    Values given under one name are alternatives, bounds are one range. A name in double quotes may
    hold any characters, as in JSON.

    Raises:
        ConfigError: An argument does not have this form, or a name has values and a range.
    """
    values: dict[str, list[Any]] = {}
    ranges: dict[str, dict[str, Any]] = {}
    for text in given:
        found = _FILTER.fullmatch(text)
        name = found and (
            _parse_json(found["quoted"]) if found["quoted"] else found["name"].strip()
        )
        if not found or not name or not isinstance(name, str) or not found["value"]:
            raise ConfigError(f"--where must read like NAME=VALUE or NAME>=NUMBER, got {text!r}")
        if found["sign"] == "=":
            values.setdefault(name, []).extend(read_values(found["value"]))
        elif found["sign"] in ranges.setdefault(name, {}):
            raise ConfigError(f"--where: {name!r} has {found['sign']} twice")
        else:
            ranges[name][found["sign"]] = read_values(found["value"].strip())[0]
    both = values.keys() & ranges.keys()
    if both:
        raise ConfigError(f"--where: give values or a range of {min(both)!r}, not both")
    return {**values, **ranges}


def _parse_json(text: str) -> Any:
    """Reads a JSON value; None if the text is none."""
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return None


def make_folder(path: Path | str) -> Path:
    """Makes a folder; raises unless files can be written to it. Call before long work.

    Raises:
        ConfigError: The path is a file, or the folder cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(f"--output: cannot write to {folder}: {error}") from error
    return folder


def refuse_store_inside(store: Path | str, output: Path | str) -> None:
    """Raises if the store lies in the folder of an index, which holds nothing else.

    Raises:
        ConfigError: It does.
    """
    inner, outer = Path(store).resolve(), Path(output).resolve()
    if outer == inner or outer in inner.parents:
        raise ConfigError(
            f"--store {store} lies in --output {output}, and an index has its folder for itself: "
            "give another --store"
        )


def corpus_file(path: Path | str) -> Path:
    """Returns the path itself, or `corpus.jsonl` in it if it is a folder (BEIR layout)."""
    path = Path(path)
    return path / "corpus.jsonl" if path.is_dir() else path


def check_file(path: Path | str) -> Path:
    """Raises unless a file can be written to `path`; makes its folder. Call before long work.

    Raises:
        ConfigError: The path is a folder, or its folder cannot be made or written to.
    """
    file = Path(path)
    try:
        place = place_of(file)
    except OSError as error:
        raise ConfigError(f"--output: cannot write {file}: {error}") from error
    if place is not None:  # it is no pipe or device, which needs no folder
        make_folder(place.parent)
        if place.is_dir():
            raise ConfigError(f"--output: {file} is a folder; give the name of a file")
    return file
