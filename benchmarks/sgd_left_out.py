"""Does training earn its place on sources it never saw? SGD beside the closed form it starts from.

    python benchmarks/sgd_left_out.py --data FOLDER --leave-out bible onestop --stop-by brown wiki

Every source named in --leave-out is left out of a fit, and so are those of --stop-by, by which
training is stopped. Both models are then measured on the source left out: how far a factor moves
the hits, in standard deviations or lift, where 90 % of the relevance is kept.
"""

import argparse
from collections.abc import Mapping

import numpy as np
from tqdm import tqdm

from subspace.data.records import read_sources
from subspace.encoder import EncoderSpec
from subspace.evaluation.steering_run import BLOCKS, measure_steering
from subspace.fitting.block_spec import DEFAULT_LAYERS
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData
from subspace.fitting.recipe import Recipe
from subspace.fitting.weak.weak_supervision import WeakSupervision
from subspace.model import Model
from subspace.training.losses import LossWeights
from subspace.training.sgd import train

KEPT = 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help="files or folders of sources")
    parser.add_argument("--exclude", nargs="*", default=[], help="sources never used")
    parser.add_argument("--leave-out", nargs="+", required=True, help="sources to measure on")
    parser.add_argument("--stop-by", nargs="*", default=[], help="sources to stop training by")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--layers", nargs="+", type=int, default=list(DEFAULT_LAYERS))
    parser.add_argument("--store", default=DEFAULT_STORE)
    parser.add_argument("--features", type=float, default=0.3)
    parser.add_argument("--rewrites", type=int, default=0)
    parser.add_argument("--anchor", type=float, default=LossWeights().anchor)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps-per-epoch", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    weak = WeakSupervision(features=arguments.features, rewrites=arguments.rewrites)
    data = FittingData.encode(
        read_sources(arguments.data, exclude=arguments.exclude),
        encoder=EncoderSpec(model=arguments.encoder, layers=tuple(arguments.layers)),
        weak=weak,
        store=arguments.store,
        progress=True,
    )
    print("| source | factor | closed form | sgd | steps |")
    print("|---|---|---|---|---|")
    gains: list[tuple[float, float]] = []
    for name in tqdm(arguments.leave_out, desc="leave out", unit="source"):
        stop_by = {n: data.sources[n] for n in arguments.stop_by if n != name}
        part = data.without(name, *stop_by)
        start = part.solve(Recipe(blocks=part.default_blocks(), weak=weak))
        trained = train(
            start,
            part,
            held_out=stop_by,
            losses=LossWeights(anchor=arguments.anchor),
            learning_rate=arguments.learning_rate,
            max_epochs=arguments.epochs,
            steps_per_epoch=arguments.steps_per_epoch,
            seed=arguments.seed,
        )
        before, after = (measure(model, data.only(name)) for model in (start, trained))
        for factor, gain in before.items():
            gains.append((gain, after[factor]))
            steps = trained.recipe["steps"]
            print(f"| {name} | {factor} | {gain:.3f} | {after[factor]:.3f} | {steps} |", flush=True)
    means = np.mean(gains, axis=0)
    print(f"| mean | | {means[0]:.3f} | {means[1]:.3f} | |")


def measure(model: Model, source: FittingData) -> Mapping[str, float]:
    """By factor, how far its block moves the hits."""
    rows = measure_steering(model, source, solve_again=False)
    return {row.factor: row.curve.at(KEPT) for row in rows if row.contender == BLOCKS}


if __name__ == "__main__":
    main()
