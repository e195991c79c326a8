"""Does training earn its place on sources it never saw? SGD beside the closed form it starts from.

    python benchmarks/sgd_left_out.py --data FOLDER --leave-out bible onestop -- ARGUMENTS OF FIT

For every source named, `subspace fit` runs twice without it, once with each solver and otherwise
the same arguments; both projections are read on the source left out, confounds controlled.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subspace.data.records import read_records
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation import EmbeddedSource, make_matrix, read_factors
from subspace.fitting.stored_sources import store_sources
from subspace.model import load_checkpoint
from subspace.model.projection import Projection

SOLVERS = ("closed_form", "sgd")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--config", default="configs/real.yaml")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--exclude", nargs="*", default=[], help="sources never used")
    parser.add_argument("--leave-out", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("arguments", nargs="*", help="further arguments of fit")
    arguments = parser.parse_args()

    models: dict[str, dict[str, Projection]] = {solver: {} for solver in SOLVERS}
    with tempfile.TemporaryDirectory() as scratch:
        for name in tqdm(arguments.leave_out, desc="leave out", unit="source"):
            for solver in SOLVERS:
                output = Path(scratch) / f"{name}-{solver}"
                _fit(arguments, without=name, solver=solver, output=output)
                checkpoint = load_checkpoint(output)
                models[solver][name] = checkpoint.projection
    encoder = CachedEncoder.open(checkpoint.encoder_spec(), root=arguments.store)
    records = read_records([arguments.data / name for name in arguments.leave_out])
    sources = {
        name: EmbeddedSource(source.records, source.labels, encoder.store.read(source.rows))
        for name, source in store_sources(records, encoder=encoder, progress=True).items()
    }
    readings, _ = read_factors(
        sources, models=models, raw=checkpoint.fingerprint.last_layer, seeds=arguments.seeds
    )
    print("| solver | probe | selectivity | own | leakage |")
    print("|---|---|---|---|---|")
    for solver in SOLVERS:
        for probe in ("linear", "neighbours"):
            matrix = make_matrix(readings, model=solver, probe=probe, controlled=True)
            means = (matrix.selectivity(), matrix.mean_retention(), matrix.mean_leakage())
            print(f"| {solver} | {probe} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |")
            print(np.array2string(matrix.values, precision=2), file=sys.stderr)


def _fit(arguments: argparse.Namespace, *, without: str, solver: str, output: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "subspace", "fit", "--config", arguments.config),
            *("--data.sources", f"[{arguments.data}]", "--data.store", arguments.store),
            *("--data.exclude", f"[{','.join([without, *arguments.exclude])}]"),
            *("--model.solver", solver, "--output", str(output)),
            *arguments.arguments,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    main()
