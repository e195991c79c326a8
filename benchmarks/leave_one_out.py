"""Separation on corpora that the projection has never seen: leave one source out of the fit.

    python benchmarks/leave_one_out.py --config configs/real.yaml --data FOLDER

For every source the closed form is solved from the statistics of all others, with the settings of
the configuration; its blocks are then probed on the source left out (probes are trained on its
training texts, scored on its test texts). Prints the block x factor matrix, means over the
sources left out, once for linear probes and once for nearest neighbours. Settings can be changed
from the command line to see what each is worth:

    --set '{"measures": false}'            {"rewrites": 0}            {"caution": null}
"""

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from subspace.blocks import BlockLayout
from subspace.cached_encoder import CachedEncoder
from subspace.closed_form import ClosedForm, solve_closed_form
from subspace.encoder import EncoderSpec
from subspace.evaluation import Separation, matrix_lines, measure_separation
from subspace.labels import label_source
from subspace.records import read_records
from subspace.statistics import collect_statistics
from subspace.weak_statistics import WeakSupervision, add_weak_statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/real.yaml"))
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument(
        "--set", default=[{}], type=json.loads, nargs="+", help="one run for each of these"
    )
    arguments = parser.parse_args()

    config = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    records = read_records(arguments.data, exclude=config["data"].get("exclude", []))
    spec = dict(config["data"]["encoder"])
    encoder = CachedEncoder.open(
        EncoderSpec(**{**spec, "layers": tuple(spec["layers"])}), root=arguments.store
    )
    raw = encoder.encoder.fingerprint.last_layer
    weak = WeakSupervision(**config["data"].get("weak", {}))
    labels = {name: label_source(name, source) for name, source in records.items()}
    embeddings, statistics = {}, {}
    for name, source in records.items():
        rows = encoder.rows([record.text for record in source], progress=True)
        embeddings[name] = encoder.store.read(rows)
        train = labels[name].positions("train")
        statistics[name] = add_weak_statistics(
            collect_statistics(embeddings[name], rows=train, labels=labels[name].take(train)),
            records=[source[position] for position in train],
            rows=rows[train],
            encoder=encoder,
            settings=weak,
            progress=True,
        )

    for changes in arguments.set:
        settings, widths = _apply(changes, model=config["model"])
        layout = BlockLayout.from_widths(widths)
        used = {
            name: replace(
                source,
                measures=source.measures if changes.get("measures", True) else None,
                rewrites=source.rewrites if changes.get("rewrites", 1) else {},
            )
            for name, source in statistics.items()
        }
        parts: list[Separation] = []
        for left_out in tqdm(records, desc="leaving out", unit="source", leave=False):
            others = {name: part for name, part in used.items() if name != left_out}
            solution = solve_closed_form(others, layout=layout, settings=settings, raw=raw)
            parts.append(
                measure_separation(
                    solution.projection,
                    embeddings={left_out: embeddings[left_out]},
                    labels={left_out: labels[left_out]},
                    raw=raw,
                )
            )
        readings = tuple(reading for part in parts for reading in part.readings)
        factors = tuple(f for f in layout if any(reading.factor == f for reading in readings))
        joined = replace(parts[0], factors=factors, readings=readings)
        print(f"\n{json.dumps(changes) if changes else 'as configured'}\n")
        print("\n".join(matrix_lines(joined)))
        print(f"\nselectivity {joined.selectivity():.2f}\n", flush=True)
        if len(arguments.set) == 1:
            for name in records:
                one = replace(joined, readings=tuple(r for r in readings if r.source == name))
                cells = np.round(one.matrix(), 2).tolist()
                print(name, dict(zip(layout, cells, strict=True)))


def _apply(changes: dict[str, Any], *, model: dict[str, Any]) -> tuple[ClosedForm, dict[str, int]]:
    """The closed form's settings and the blocks' widths with some of them changed."""
    known = {field.name for field in fields(ClosedForm)}
    changed = {key: value for key, value in changes.items() if key in known}
    return (
        ClosedForm(**{**model.get("closed_form", {}), **changed}),
        changes.get("blocks", model["blocks"]),
    )


if __name__ == "__main__":
    main()
