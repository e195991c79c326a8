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

from jsonargparse import capture_parser
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from subspace.cli.fit import run_training

PAGE = Path(__file__).with_name("reference-yaml.md")
_HEAD = """\
# Every key of the YAML files

<!-- Written by `python docs/make_reference_yaml.py`; a test compares. -->

`subspace fit --config C.yaml` reads these keys. Each is an option as well, such as
`--data.batch_size 256`. Options count more than files, and a later file more than an earlier one;
a mapping such as `model.blocks` replaces the whole mapping before it. `--print_config` prints what
comes of it. A key that does not exist is refused by name.
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
    return _HEAD + "".join(map(_table, tables, tables.values())) + _LIGHTNING + _changed(keys)


def _table(title: str, rows: list[str]) -> str:
    head = "| key | kind | default | what it is |\n|---|---|---|---|\n"
    return f"\n## {title}\n\n{head}{''.join(rows)}"


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
