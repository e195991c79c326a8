"""Does training earn its place on sources it never saw? SGD beside the closed form it starts from.

    python benchmarks/sgd_left_out.py --data FOLDER --folds 6 --kin brown,gum --kin bible,plays

Sources are dealt into folds, kin together. Each fold is left out of a fit and measured; training is
stopped by the next fold, which is left out as well. Both models are measured on the same queries:
how far a factor moves the hits, in standard deviations or lift, where 90 % of relevance is kept.
"""

import argparse
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from subspace.arrays import Floats
from subspace.data.records import read_sources
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError
from subspace.evaluation.cross_corpus import folds
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
    parser.add_argument("--folds", type=int, default=6, help="number of fits")
    parser.add_argument(
        "--kin", action="append", default=[], help="names of similar sources, with commas"
    )
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
    groups = deal(folds(data.sources, [one.split(",") for one in arguments.kin]), arguments.folds)
    print("| fold | source | factor | closed form | sgd | steps |")
    print("|---|---|---|---|---|---|")
    gains: dict[str, list[tuple[float, float]]] = {}
    for number, group in enumerate(tqdm(groups, desc="leave out", unit="fold")):
        stop_by = {name: data.sources[name] for name in groups[(number + 1) % len(groups)]}
        part = data.without(*group, *stop_by)
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
        steps = Recipe.from_json(trained.recipe).steps
        for name in group:
            before, after = (measure(model, data.only(name)) for model in (start, trained))
            for factor, gain in before.items():
                gains.setdefault(factor, []).append((gain, after[factor]))
                row = f"{number + 1} | {name} | {factor} | {gain:.3f} | {after[factor]:.3f}"
                print(f"| {row} | {steps} |", flush=True)
    print("\n| factor | sources | closed form | sgd | sgd is better on | of the difference, 95 % |")
    print("|---|---|---|---|---|---|")
    for factor, pairs in gains.items():
        print(f"| {factor} | {compare(np.array(pairs), seed=arguments.seed)} |")


def deal(groups: Sequence[Sequence[str]], count: int) -> list[list[str]]:
    """Deals groups of sources into folds of about equal numbers, in the order of the groups."""
    dealt: list[list[str]] = [[] for _ in range(count)]
    for group in groups:
        min(dealt, key=len).extend(group)
    return [fold for fold in dealt if fold]


def compare(pairs: Floats, *, seed: int) -> str:
    """Returns the cells of a factor: gains (sources, 2) in closed form and by SGD."""
    difference = pairs[:, 1] - pairs[:, 0]
    drawn = np.random.default_rng(seed).integers(len(pairs), size=(10_000, len(pairs)))
    low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
    before, after = pairs.mean(axis=0)
    return (
        f"{len(pairs)} | {before:.3f} | {after:.3f} | {int((difference > 0).sum())} | "
        f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
    )


def measure(model: Model, source: FittingData) -> Mapping[str, float]:
    """By factor, how far its block moves the hits; nothing where no factor can be measured."""
    try:
        rows = measure_steering(model, source, solve_again=False)
    except ConfigError:  # too few labelled texts
        return {}
    return {row.factor: row.curve.at(KEPT) for row in rows if row.contender == BLOCKS}


if __name__ == "__main__":
    main()
