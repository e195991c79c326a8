"""`subspace quickstart`: from raw texts to a checkpoint, a report and a search."""

import argparse
import hashlib
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from subspace.cli import index, label, probe, search
from subspace.cli.arguments import Commands, add_store, make_folder, refuse_store_inside
from subspace.cli.terminal import one_line
from subspace.errors import ConfigError
from subspace.files import is_hidden, write_whole
from subspace.outputs import is_same_file

if TYPE_CHECKING:
    from subspace.data import Record
    from subspace.files import Line

# With fewer texts, class statistics are too noisy to fit blocks.
_MIN_TEXTS = 50
# Smallest number of test texts for a probe, and the divisor that limits them to a fifth of all
# texts. The same holds for validation texts.
_MIN_TEST, _MOST_TEST = 30, 5
_TEXTS, _LABELLED, _CONFIG = "texts.jsonl", "labelled.jsonl", "fit.yaml"
_BY_HAND, _CHECKPOINT, _ADAPTED, _REPORT, _INDEX = (
    *("by-hand.jsonl", "checkpoint", "adapted", "report", "index"),
)
# All that quickstart and the commands that it names write to --output.
_WRITTEN = (_TEXTS, _LABELLED, _CONFIG, _BY_HAND, _CHECKPOINT, _ADAPTED, _REPORT, _INDEX)
# Types of the labels that quickstart gives. Labels that texts already have must be of these types.
_KINDS = {"topic": str, "style": str, "complexity": float, "specificity": float}


class _Step(NamedTuple):
    """One command, and the texts that introduce it; none if the step is passed over."""

    what: str
    why: str
    command: list[str]


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "quickstart",
        help="from raw texts to a checkpoint, a report and a search",
        description="Labels texts by clusters and features, fits blocks, reports how well they "
        "separate, builds an index and searches it. Says at every step what it does, and which "
        "command does that step alone.",
        epilog="example: subspace quickstart my/texts --output runs/quickstart",
    )
    parser.add_argument(
        "texts",
        metavar="FOLDER_OF_TEXTS",
        help="a folder of .txt and .md files, or one .jsonl with `id` and `text`",
    )
    parser.add_argument(
        "--output",
        default="runs/quickstart",
        metavar="DIR",
        help="folder of all results (default: %(default)s)",
    )
    add_store(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.files import write_lines

    source, output = Path(arguments.texts), Path(arguments.output)
    for written in (output, *(output / name for name in _WRITTEN)):
        if is_same_file(source, written):
            raise ConfigError(f"--output: {source} would be written over; give another folder")
    print("[1/8] reading the texts")
    lines = _read_lines(source, output=output)
    _check_output(output, beside=[source, Path(arguments.store)])
    refuse_store_inside(arguments.store, output / _INDEX)
    _check_labelled(output, lines=lines)
    make_folder(output)
    write_lines(output / _TEXTS, lines)
    print(f"{len(lines)} texts -> {output / _TEXTS}")
    started = time.monotonic()
    for number, step in enumerate(_steps(output, store=arguments.store), start=2):
        print(f"\n[{number}/8] {step.what}: {step.why}")
        if not step.command:
            continue
        print(f"$ subspace {shlex.join(step.command)}", flush=True)
        begun = time.monotonic()
        _execute(step.command)
        print(f"({time.monotonic() - begun:.0f} s)")
    print(
        f"\ndone in {time.monotonic() - started:.0f} s. {output / _REPORT / 'separation.html'} "
        "says how well the blocks separate. The labels are from clusters and features, not from "
        f"people: where you have better ones, put them into {output / _LABELLED} (without "
        "an origin) and go on from the fit. Or teach the blocks by thirty labels of your own, in "
        "the same index:"
    )
    for command in _by_hand(output):
        print(f"  subspace {shlex.join(command)}")


def _read_lines(source: Path, *, output: Path) -> list[dict[str, Any]]:
    """Reads the texts as lines of JSONL, and assigns splits if there are none.

    Args:
        source: A JSONL file, or a folder of texts.
        output: Folder of the results. Its files are not read as texts.

    Raises:
        ConfigError: There are fewer than `_MIN_TEXTS` texts.
        RecordError: Lines of a JSONL file are wrong.
    """
    from subspace.labelling.raw_texts import read_raw_texts
    from subspace.labelling.read_texts import read_texts

    if source.is_file() and source.name.endswith((".jsonl", ".jsonl.gz")):
        texts = read_texts(source)
        _check_kinds(texts)
        lines = [dict(line.value) for line, _ in texts]
    else:
        inside = output if source.resolve() in output.resolve().parents else None
        found = read_raw_texts(source, leave_out=inside)
        for name, reason in found.skipped.items():
            print(f"passed over: {one_line(name)} {one_line(reason)}")
        if found.hidden:
            noun = "a hidden file" if found.hidden == 1 else f"{found.hidden} hidden files"
            print(f"passed over: {noun}")
        for name in found.cut:
            print(
                f"only the beginning of {one_line(name)} is read; cut it up to have the rest found"
            )
        lines = [{"id": document.id, "text": document.text} for document in found.records]
    if len(lines) < _MIN_TEXTS:
        raise ConfigError(
            f"{source} holds {len(lines)} usable texts, and {_MIN_TEXTS} are needed to fit blocks; "
            "cut long texts into passages, or search with a checkpoint that is there "
            "(--checkpoint minilm)"
        )
    if not any("split" in line or line.get("group") for line in lines):
        _assign_splits(lines)
    return lines


def _check_kinds(texts: "Sequence[tuple[Line, Record]]") -> None:
    from subspace.files import Problems

    problems = Problems()
    for line, record in texts:
        for factor, value in record.factors.items():
            if not isinstance(value, _KINDS.get(factor, object)):
                kind = "a text" if _KINDS[factor] is str else "a number"
                problems.add(
                    line.where, f"'{factor}' must be {kind} for quickstart, got {value!r:.60}"
                )
    problems.raise_if_any()


def _check_output(output: Path, *, beside: Sequence[Path]) -> None:
    """Raises unless the folder is new, empty, or of an earlier run.

    Args:
        output: The folder.
        beside: Files and folders that may lie in it as well.

    Raises:
        ConfigError: It holds other things.
    """
    allowed = [path.resolve() for path in beside]
    for path in sorted(output.iterdir()) if output.is_dir() else ():
        kept = any(one == path.resolve() or path.resolve() in one.parents for one in allowed)
        if not kept and path.name not in _WRITTEN and not is_hidden(path):
            raise ConfigError(
                f"--output: {output} holds {one_line(path.name)}, which quickstart did not write: "
                "give a new or an empty folder"
            )


def _check_labelled(output: Path, *, lines: Sequence[dict[str, Any]]) -> None:
    """Raises if the run would overwrite labels that people added to an earlier run's results."""
    from subspace.data import Record
    from subspace.labelling.lost_labels import refuse_lost_labels

    go_on = shlex.join(_command("fit", config=output / _CONFIG))
    refuse_lost_labels(
        output / _LABELLED,
        kept=[
            Record(
                id=line["id"],
                text=line["text"],
                factors=line.get("factors") or {},
                origins=line.get("origins") or {},
            )
            for line in lines
        ],
        advice=f"go on from there with `subspace {go_on}`, or give another --output",
    )


def _assign_splits(lines: Sequence[dict[str, Any]]) -> None:
    """Assigns splits by the hash of the id, with as many held-out texts as probes need."""
    held = min(max(_MIN_TEST, len(lines) // 10), len(lines) // _MOST_TEST)
    drawn = sorted(lines, key=lambda line: hashlib.sha256(line["id"].encode()).digest())
    for place, line in enumerate(drawn):
        line["split"] = ("test", "validation", "train")[min(place // held, 2)]


def _steps(output: Path, *, store: str) -> Iterator[_Step]:
    """Yields the steps after the first. Each must be executed before the next is requested."""
    from subspace.fitting import DEFAULT_LAYERS  # every command imports this module
    from subspace.model import load

    labelled, checkpoint = output / _LABELLED, output / _CHECKPOINT
    yield _Step(
        "labelling",
        "blocks are fitted on labels; nobody gave any, so topics are clusters of the embedding, "
        "and the other labels are counted on the texts",
        _command(
            "label",
            input=output / _TEXTS,
            output=labelled,
            factors="topic,complexity,specificity,style",
            by="clusters,features",
            layers=",".join(map(str, DEFAULT_LAYERS)),
            store=store,
        ),
    )
    config = output / _CONFIG
    encoder = {"model": "minilm", "layers": list(DEFAULT_LAYERS)}
    _write_config(config, source=labelled, checkpoint=checkpoint, encoder=encoder, store=store)
    yield _Step(
        "fitting",
        "one matrix splits the embedding into blocks: what a text is about, and one per label",
        _command("fit", config=config),
    )
    yield _Step(
        "measuring",
        "whether a weight moves the hits, and what each block holds of each factor",
        _command(
            "probe",
            checkpoint=checkpoint,
            data=labelled,
            output=output / _REPORT,
            store=store,
        ),
    )
    yield _Step(
        "indexing",
        "vectors are kept once; weights are given with each search",
        _command(
            "index", checkpoint=checkpoint, input=labelled, output=output / _INDEX, store=store
        ),
    )
    like, asked = _example(labelled), {"checkpoint": checkpoint, "index": output / _INDEX}
    ask = _command("search", **asked, like=like)
    yield _Step("searching", "by what the texts are about", ask)
    blocks = load(checkpoint).layout.names
    for what, factor, strength in (
        ("simpler", "complexity", -1),
        ("more specific", "specificity", 1),
    ):
        if factor in blocks:
            why = "the 20 most alike, ordered by that as well"
            command = [*ask, "--candidates", "20", "--toward", f"{factor}={strength}"]
        else:
            why = f"passed over, as these texts gave no block of '{factor}' (see the fit)"
            command = []
        yield _Step(f"searching, {what}", why, command)


def _by_hand(output: Path) -> list[list[str]]:
    """Returns the commands that make the labels of rules better."""
    from subspace.model import load

    model = load(output / _CHECKPOINT)
    blocks = [name for name in model.layout if name != "topic"]
    factor = "complexity" if "complexity" in blocks else [*blocks, "topic"][0]
    classes = model.heads[factor].classes if factor in model.heads else None
    labels, adapted, index = output / _BY_HAND, output / _ADAPTED, output / _INDEX
    asked = _command(
        "label",
        factors=factor,
        checkpoint=output / _CHECKPOINT,
        input=output / _TEXTS,
        output=labels,
    )
    asked += ["--by", "person", "--pick", "30"]
    if classes and not any("," in name for name in classes):
        asked += ["--classes", ",".join(classes)]
    # A factor of classes has a direction to each of them, and none to less of it.
    names = [
        name for name in model.directions if name.partition(":")[0] == factor and "," not in name
    ]
    toward = f"{names[-1]}=1" if classes and names else f"{factor}=-1"
    learn = {"checkpoint": output / _CHECKPOINT, "index": index, "labels": labels}
    return [
        asked,
        _command("adapt", **learn, output=adapted),
        _command("search", checkpoint=adapted, index=index, query="...", toward=toward),
    ]


def _command(name: str, **options: Path | str) -> list[str]:
    return [name, *(part for key, value in options.items() for part in (f"--{key}", str(value)))]


def _write_config(
    path: Path, *, source: Path, checkpoint: Path, encoder: dict[str, Any], store: str
) -> None:
    import yaml

    config = {
        "output": str(checkpoint),
        "seed_everything": 0,
        "data": {
            "sources": [str(source)],
            "encoder": encoder,
            "store": store,
        },
    }
    try:
        write_whole(path, yaml.safe_dump(config, sort_keys=False).encode())
    except OSError as error:
        raise ConfigError(f"--output: cannot write {path}: {error}") from error


def _example(labelled: Path) -> str:
    """Returns the id of a text that is more complex than most, so that simpler texts exist.

    Without labels of complexity it is any text.
    """
    content = labelled.read_text(encoding="utf-8").split("\n")  # not at U+2028
    lines = [json.loads(line) for line in content if line]
    ranked = sorted(lines, key=lambda line: line["factors"].get("complexity", 0.0))
    return str(ranked[3 * len(ranked) // 4]["id"])


def _execute(command: list[str]) -> None:
    if command[0] == "fit":
        from subspace.cli.fit import run_training

        run_training(command)
        return
    parser = argparse.ArgumentParser(prog="subspace")
    commands = parser.add_subparsers()
    for module in (label, probe, index, search):
        module.add_command(commands)
    parsed = parser.parse_args(command)
    parsed.run(parsed)
