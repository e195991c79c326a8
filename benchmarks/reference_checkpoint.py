"""Fits the reference checkpoints that come with the package, and writes their model cards.

    python benchmarks/reference_checkpoint.py --data FOLDER --output checkpoints/minilm
    python benchmarks/reference_checkpoint.py --data FOLDER --output LAST --layers -1

FOLDER holds one folder per labelled source, LAST is checkpoints/minilm-last: the last layer alone,
for vectors that are stored already. Only sources whose licence allows a model to be handed on are
learned from (`LICENCES`), at most 1,500 texts of each, whole groups, drawn by a fixed seed. With
--report, what `subspace bench steer` wrote of the same checkpoint goes into its card; the fit is
the same again.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

import subspace
from subspace.data import Record, read_sources
from subspace.encoder import EncoderSpec
from subspace.fitting import WeakSupervision
from subspace.fitting.block_spec import DEFAULT_LAYERS

TEXTS = 1500
CARD_LICENCE = "cc-by-sa-4.0"
# Licence and attribution by source; factors that are pure length are not learned (`scitldr`).
LICENCES = {
    "banking77": ("CC BY 4.0", "Casanueva et al. 2020"),
    "cad_sentiment": ("Apache-2.0", "Kaushik, Hovy & Lipton 2020"),
    "cefr_wiki": ("CC BY-SA 3.0", "Arase, Uchida & Kajiwara 2022, sentences of Wiki-Auto"),
    "clickbait": ("MIT", "Chakraborty et al. 2016"),
    "clinc": ("CC BY 3.0", "Larson et al. 2019"),
    "factorial": ("MIT", "this project's own corpus"),
    "infolossqa": ("CC BY 4.0", "Trienes et al. 2024"),
    "isarcasm": ("MIT", "Abu Farha et al. 2022"),
    "laymaker": ("CC BY 4.0", "Moramarco et al. 2021"),
    "mytomorrows": ("CC BY-SA 3.0", "van den Bercken, Sips & Lofi 2019"),
    "onestop": ("CC BY-SA 4.0", "Vajjala & Lučić 2018; Berzak, Malmaud & Levy 2020"),
    "positive_frames": ("CC BY-SA 4.0", "Ziems et al. 2022"),
    "sib200": ("CC BY-SA 4.0", "Adelani et al. 2024; NLLB Team 2022"),
    "snips": ("CC0 1.0", "Coucke et al. 2018"),
    "swipe": ("Apache-2.0; text CC BY-SA", "Laban et al. 2023; Wikipedia editors"),
    "uds_genericity": ("CC BY-SA 4.0", "Govindarajan, Van Durme & White 2019; White et al. 2020"),
    "wiki_split_a": ("CC BY-SA 4.0", "Botha et al. 2018; Wikipedia editors"),
}


def sample(records: Sequence[Record], *, count: int = TEXTS) -> list[Record]:
    """About `count` records, whole groups, in their order."""
    keys = [record.group or record.id for record in records]
    names = list(dict.fromkeys(keys))
    np.random.default_rng(0).shuffle(names)
    sizes = Counter(keys)
    kept: set[str] = set()
    total = 0
    for name in names:
        if total < count or len(records) <= count:
            kept.add(name)
            total += sizes[name]
    return [record for record, key in zip(records, keys, strict=True) if key in kept]


def licensed_records(folders: Sequence[str]) -> list[Record]:
    """The records that are learned from."""
    chosen: list[Record] = []
    for name, records in read_sources(folders).items():
        if name == "cefr_sp":  # the other half may not be used commercially
            records = tuple(r for r in records if r.id.startswith("cefr-wiki-"))
            records = tuple(Record(**{**vars(r), "source": "cefr_wiki"}) for r in records)
            name = "cefr_wiki"
        if name in LICENCES:
            chosen += sample(records)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--features", type=float, default=0.3)
    parser.add_argument("--layers", nargs="+", type=int, default=list(DEFAULT_LAYERS))
    parser.add_argument("--report", help="folder that `subspace bench steer` wrote")
    arguments = parser.parse_args()
    records = licensed_records([*arguments.data, "data/factorial"])
    model = subspace.fit(
        records,
        encoder=EncoderSpec(layers=tuple(arguments.layers)),
        weak=WeakSupervision(features=arguments.features),
        store=arguments.store,
        progress=True,
    )
    names = dict.fromkeys(record.source for record in records)
    stated = {
        "checkpoint": CARD_LICENCE,
        "sources": {
            name: {"licence": LICENCES[name][0], "attribution": LICENCES[name][1]} for name in names
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        licences = Path(folder) / "licences.yaml"
        licences.write_text(yaml.safe_dump(stated, allow_unicode=True), encoding="utf-8")
        name = Path(arguments.output).name
        model.save(arguments.output, name=name, licences=licences, report=arguments.report)
    print(f"{len(records)} texts of {len(names)} sources -> {arguments.output}")


if __name__ == "__main__":
    main()
