"""Writes docs/reference-yaml.md from the parser that reads the YAML files.

python docs/make_reference_yaml.py
"""

import argparse
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser, capture_parser
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from subspace.cli.fit import run_training
from subspace.fitting.block_spec import DEFAULT_BLOCKS, BlockSpec

PAGE = Path(__file__).with_name("reference-yaml.md")
_HEAD = """\
# Every key of the YAML files

<!-- Written by `python docs/make_reference_yaml.py`; a test compares. -->

`subspace fit --config C.yaml` reads these keys. Each is an option as well, such as
`--data.batch_size 256`. Options count more than files, and a later file more than an earlier one;
a mapping such as `model.blocks` replaces the whole mapping before it. `--print_config` prints what
comes of it. A key that does not exist is refused by name, and so is
one that stands twice.
"""
_LIGHTNING = """
## Lightning's own

`trainer`, `checkpoint` and `early_stopping` take every argument of Lightning's `Trainer`,
`ModelCheckpoint` and `EarlyStopping`; `subspace fit --help` lists them. Nothing is logged unless
`trainer.logger` says so: `--config configs/wandb.yaml` (offline) or `--config
configs/tensorboard.yaml` behind one's own file. A logger gets the losses by name, all of these
settings, and at the end the separation matrix that a linear probe reads on validation texts, as
numbers, table and picture. Defaults that differ from Lightning's:

| key | here | Lightning |
|---|---|---|
"""
_BLOCKS = """
A block is given by its width (`style: 256`) or by some of these settings (`style: {width: 256,
layers: [0, 1]}`); what is left out is as in the library's own blocks:

"""
_WORDS = {float: "number", int: "whole number", str: "text", bool: "truth value", NoneType: "null"}


def make_page() -> str:
    """The whole page."""
    parser = capture_parser(run_training, ["fit"])
    actions = parser._subcommands_action._name_parser_map["fit"]._actions
    keys = {a.dest: a for a in actions if a.default is not argparse.SUPPRESS}
    own = {key: action for key, action in keys.items() if key.startswith(("model.", "data."))}
    tables = {"The run": [_row(key, keys[key]) for key in ("output", "seed_everything")]}
    for key, action in own.items():
        tables.setdefault(f"`{key.rpartition('.')[0]}`", []).append(_row(key, action))
    pages = {title: _table(title, rows) for title, rows in tables.items()}
    pages["`model`"] += _blocks()
    return _HEAD + "".join(pages.values()) + _LIGHTNING + _changed(keys)


def _table(title: str, rows: list[str]) -> str:
    head = "| key | kind | default | what it is |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{head}{''.join(rows)}"


def _blocks() -> str:
    """The settings of one block, and the library's own blocks."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(BlockSpec, "NAME")
    actions = {a.dest: a for a in parser._actions if a.dest.startswith("NAME.")}
    rows = [_row(f"model.blocks.{key}", action) for key, action in actions.items()]
    own = {
        name: {key: spec.to_json()[key] for key in ("layers", "signal_power", "noise_power")}
        for name, spec in DEFAULT_BLOCKS.items()
    }
    lines = "".join(f"    {name}: {json.dumps(spec)}\n" for name, spec in own.items())
    return (
        _table("`model.blocks`", rows).replace("\n\n", f"\n{_BLOCKS}", 1)
        + f"\nThe library's own blocks, each {BlockSpec().width} wide at most:\n\n{lines}"
    )


def _row(key: str, action: argparse.Action) -> str:
    kind = _say(getattr(action, "_typehint", None) or str)
    cells = [f"`{key}`", kind, f"`{_show(action.default)}`", " ".join((action.help or "").split())]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _changed(keys: Mapping[str, argparse.Action]) -> str:
    """Rows of Lightning's keys whose default is another one here."""
    rows = []
    classes = {"trainer": Trainer, "checkpoint": ModelCheckpoint, "early_stopping": EarlyStopping}
    for group, owner in classes.items():
        for name, parameter in inspect.signature(owner).parameters.items():
            action = keys.get(f"{group}.{name}")
            if action is not None and action.default != parameter.default:
                given = parameter.default is not inspect.Parameter.empty
                theirs = f"`{_show(parameter.default)}`" if given else "has to be given"
                rows.append(f"| `{group}.{name}` | `{_show(action.default)}` | {theirs} |\n")
    return "".join(rows)


def _say(hint: Any) -> str:
    """A type in words."""
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in get_args(hint))
    if hint == dict[str, Any]:
        return "settings"
    inner = [_say(each) for each in get_args(hint) if each is not ...]
    if origin in (Union, UnionType):
        return " or ".join(inner)
    if origin is not None and issubclass(origin, Mapping):
        return f"{inner[1]} by name"
    if origin is not None:
        return f"list of {inner[0]}"
    return _WORDS[hint]


def _show(value: Any) -> str:
    """A default as YAML would have it."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
