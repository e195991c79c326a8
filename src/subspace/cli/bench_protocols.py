"""`subspace bench protocols`: what gets embedded, and how it is cut up."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_store,
    make_folder,
    open_encoder,
)
from subspace.cli.bench_data import add_data, read_data
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.blocks import BlockLayout


def add_protocols(benches: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the bench's arguments."""
    parser = benches.add_parser(
        "protocols",
        help="what gets embedded, and how it is cut up",
        description="Searches a retrieval set under every protocol: one vector per item that has "
        "read more or less of it (single), the best piece (chunks), document, paragraph and "
        "sentence together (hierarchical), a vector per token (late-interaction), fewer "
        "dimensions (reductions), the checkpoint's blocks (factored), and these of pieces "
        "(factored-chunked). Writes protocols.json, protocols.md and protocols.png; what is "
        "measured is kept under parts/, so that an interrupted bench goes on where it was.",
        epilog="example: subspace bench protocols --data my/skills --checkpoint "
        "checkpoints/minilm --output runs/protocols --protocols chunks,late-interaction,pca-128",
    )
    add_checkpoint(parser)
    add_store(parser)
    add_data(parser)
    parser.add_argument(
        "--protocols",
        metavar="NAMES",
        help="protocols or families of them, with commas between; reductions (pca, random, "
        "truncate, learned) to any size, such as pca-48 (default: all)",
    )
    parser.add_argument(
        "--weights",
        metavar="BLOCKS",
        help="weights of blocks, such as topic=0.7,style=0.1 (default: equal ones)",
    )
    parser.add_argument(
        "--levels",
        metavar="WEIGHTS",
        help="weights of the hierarchical protocol's levels, such as "
        "document=0.5,paragraph=0.3,sentence=0.2 (default: equal ones)",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the tables")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.bench.protocol import LEVELS, Setting
    from subspace.bench.protocol_run import make_key, run_protocols
    from subspace.bench.protocol_tables import protocols_markdown, write_protocols
    from subspace.bench.protocols import choose_protocols
    from subspace.bench.readings import StoredSource
    from subspace.bench.vector_protocols import left_out
    from subspace.blocks import BlockLayout
    from subspace.model import load_checkpoint

    output = make_folder(arguments.output)
    checkpoint = load_checkpoint(arguments.checkpoint)
    data, notes = read_data(arguments, checkpoint=checkpoint)
    layout = checkpoint.projection.layout
    levels = BlockLayout(LEVELS, (1,) * len(LEVELS))
    setting = Setting(
        projection=checkpoint.projection,
        raw=checkpoint.fingerprint.last_layer,
        documents=len(data.documents),
        weights=_read_weights(arguments.weights, layout=layout, option="--weights"),
        levels=_read_weights(arguments.levels, layout=levels, option="--levels")
        or dict.fromkeys(LEVELS, 1 / len(LEVELS)),
    )
    protocols = choose_protocols(arguments.protocols, setting=setting)
    encoder = open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    bench = run_protocols(
        protocols,
        data=data,
        source=StoredSource(encoder, progress=True),
        fresh=encoder.encoder,
        parts=output / "parts",
        key=make_key(data, checkpoint),
        progress=True,
    )
    missing = [] if arguments.protocols else left_out(setting)
    if missing:
        notes += (
            f"left out, as {len(data.documents)} documents are too few for them: "
            f"{', '.join(missing)}",
        )
    bench = replace(bench, notes=notes)
    write_protocols(bench, folder=output)
    print(protocols_markdown(bench), end="")
    print(f"bench -> {output}/protocols.md")


def _read_weights(
    text: str | None, *, layout: "BlockLayout", option: str
) -> Mapping[str, float] | None:
    """Weight by name, as `subspace search` takes them; None if nothing is given.

    Raises:
        ConfigError: A name is unknown, a value is refused, or recency or importance is asked for.
    """
    from subspace.errors import WeightsError
    from subspace.retrieval import Weights

    if text is None:
        return None
    try:
        weights = Weights.parse(text, layout=layout)
    except WeightsError as error:
        raise ConfigError(f"{option}: {error}") from error
    if weights.uses_history:
        raise ConfigError(f"{option}: there is no history here: leave out riv and preset")
    return dict(zip(layout, weights.relevance, strict=True))
