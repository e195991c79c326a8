"""`subspace export`: writes a checkpoint to a folder, the hub, or for sentence-transformers."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.cli.arguments import Commands, add_checkpoint
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.blocks import BlockLayout
    from subspace.model import Model

_FOLDER, _HUB, _LIBRARY = _KINDS = ("folder", "hub", "sentence-transformers")


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "export",
        help="hand a checkpoint on: with its card, to the hub, or to sentence-transformers",
        description="Writes the checkpoint with a model card to a folder (`--to folder DIR`), "
        "pushes both to the Hugging Face hub (`--to hub OWNER/NAME`), or writes a folder that "
        "`SentenceTransformer(DIR)` opens without this package (`--to sentence-transformers DIR`).",
        epilog="example: subspace export --checkpoint checkpoints/demo --to folder runs/export "
        "--report runs/report",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--to",
        required=True,
        nargs=2,
        metavar=("KIND", "TARGET"),
        help=f"{', '.join(_KINDS)}, and the folder or the repository",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="what `subspace probe` or `subspace bench steer` wrote to --output DIR, for the card; "
        "without it the card claims nothing",
    )
    parser.add_argument(
        "--licences",
        metavar="F",
        help="YAML file for the card: `checkpoint: cc-by-sa-4.0` and `sources: {NAME: {licence: "
        "..., attribution: ...}}`; what it does not name is not stated",
    )
    parser.add_argument("--private", action="store_true", help="hub: makes the repository private")
    parser.add_argument(
        "--weights",
        metavar="W",
        help="sentence-transformers: weights folded into the vectors, such as topic=0.7,style=0.3; "
        "topic=1 exports that block alone (default: every block of unit length)",
    )
    parser.add_argument(
        "--dims",
        metavar="D",
        help="sentence-transformers: leading dimensions to keep, such as topic=16,style=8",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.model import load
    from subspace.model.checkpoint_folder import check_new_target

    kind, target = arguments.to
    if kind not in _KINDS:
        raise ConfigError(f"--to must be {', '.join(_KINDS)}, got {kind!r}")
    of_one = {"--private": (arguments.private, _HUB)}
    for option in ("weights", "dims", "encoder"):
        of_one[f"--{option}"] = (getattr(arguments, option), _LIBRARY)
    for option, (value, owner) in of_one.items():
        if value and kind != owner:
            raise ConfigError(f"{option} goes with --to {owner} alone")
    if kind == _FOLDER:
        check_new_target(target)
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    card = {"report": arguments.report, "licences": arguments.licences}
    if kind == _FOLDER:
        model.save_pretrained(target, **card)
        print(f"checkpoint -> {target}")
    elif kind == _HUB:
        commit = model.push_to_hub(target, private=arguments.private or None, **card)
        print(f"checkpoint -> {commit}\nload it with --checkpoint {target}@{Path(commit).name}")
    else:
        _to_library(model, target, card=card, arguments=arguments)


def _to_library(
    model: "Model", target: str, *, card: dict[str, Any], arguments: argparse.Namespace
) -> None:
    from subspace.model.export.sentence_transformers import export_sentence_transformers
    from subspace.retrieval.weights import Weights

    layout = model.layout
    weights = None
    if arguments.weights:
        table = Weights.parse(arguments.weights, layout=layout)
        if table.uses_history:
            raise ConfigError("--weights: recency and importance cannot be folded into a model")
        weights = dict(zip(layout, table.relevance, strict=True))
    exported = export_sentence_transformers(
        model,
        target,
        weights=weights,
        dims=_read_dims(arguments.dims, layout=layout) if arguments.dims else None,
        card=card,
    )
    widths = ", ".join(f"{name} {width}" for name, width in exported.widths.items())
    print(
        f"{sum(exported.widths.values())} dimensions ({widths}) -> {exported.folder}; vectors "
        f"differ from subspace's by {exported.difference:.1g} at most"
    )
    if exported.needs_code:
        print(
            f"open it with SentenceTransformer({target!r}, trust_remote_code=True): it runs "
            "subspace_modules.py, which lies in the folder"
        )


def _read_dims(text: str, *, layout: "BlockLayout") -> dict[str, int]:
    dims = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if not number.strip().isdecimal():
            raise ConfigError(
                f"--dims must read like {layout.names[0]}=16, with whole numbers; got {part!r}"
            )
        dims[name.strip()] = int(number)
    return dims
