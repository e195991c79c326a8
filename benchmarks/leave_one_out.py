"""Separation on corpora that the projection has never seen: leave one source out of the fit.

    python benchmarks/leave_one_out.py --data FOLDER --exclude kusp_skills

For every source the closed form is solved from the statistics of all others; its blocks are then
probed on the source left out (probes are trained on its training texts, scored on its test texts).
Prints the block x factor matrix, means over the sources left out.
"""

import argparse
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from subspace.blocks import BlockLayout
from subspace.cached_encoder import CachedEncoder
from subspace.closed_form import ClosedForm, solve_closed_form
from subspace.encoder import EncoderSpec
from subspace.evaluation import Separation, matrix_lines, measure_separation
from subspace.labels import label_source
from subspace.records import read_records
from subspace.statistics import collect_statistics


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--layers", nargs="+", type=int, default=[1, 3, 6])
    arguments = parser.parse_args()

    records = read_records(arguments.data, exclude=arguments.exclude)
    encoder = CachedEncoder.open(EncoderSpec(layers=tuple(arguments.layers)), root=arguments.store)
    raw = encoder.encoder.fingerprint.last_layer
    layout = BlockLayout.from_widths(
        {"topic": 192, "style": 64, "complexity": 64, "specificity": 64}
    )
    labels = {name: label_source(name, source) for name, source in records.items()}
    embeddings, statistics = {}, {}
    for name, source in records.items():
        embeddings[name] = encoder.encode([record.text for record in source], progress=True)
        train = labels[name].positions("train")
        statistics[name] = collect_statistics(
            embeddings[name], rows=train, labels=labels[name].take(train)
        )

    parts: list[Separation] = []
    for left_out in tqdm(records, desc="leaving out", unit="source"):
        others = {name: part for name, part in statistics.items() if name != left_out}
        solution = solve_closed_form(others, layout=layout, settings=ClosedForm(), raw=raw)
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
    print("\n".join(matrix_lines(joined)))
    print(f"selectivity {joined.selectivity():.2f}")
    for name in records:
        one = replace(joined, readings=tuple(r for r in readings if r.source == name))
        cells = np.round(one.matrix(), 2).tolist()
        print(name, dict(zip(layout, cells, strict=True)))


if __name__ == "__main__":
    main()
