"""How often the intervals of `subspace bench steer` hold what they are intervals of.

Worlds of texts are drawn again and again: vectors with a falling spectrum, one direction that
correlates with the labels by as much as is said (0: the labels are noise). The score is that
direction, or a ridge regression that each half of the texts learned from the other. The truth is
the mean gain over all worlds at 90 % of the relevance; without a correlation it is 0. Beside the
intervals stand those of a bootstrap over queries alone.

    python benchmarks/steering_intervals.py --worlds 200
"""

import argparse
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from subspace.arrays import Floats, Ints
from subspace.blocks import unit
from subspace.evaluation.steering import Curve, SteeringTask
from subspace.evaluation.steering_baselines import fitted_inside
from subspace.model.markdown import table

KEPT = 0.9
DIM, PLACE = 24, 5  # dimensions, and the one that the labels follow
KINDS = ("toward", "toward, learned from halves", "alike")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--texts", type=int, nargs="*", default=[300, 1000])
    parser.add_argument("--correlations", type=float, nargs="*", default=[0.0, 0.5, 0.9])
    parser.add_argument("--queries", type=int, default=150)
    given = parser.parse_args()
    rows = [
        measure(kind, count, correlation, worlds=given.worlds, queries=given.queries)
        for kind in KINDS
        for count in given.texts
        for correlation in given.correlations
    ]
    head = ["asked for", "texts", "correlation", "gain", "its deviation", "holds it"]
    print("\n".join(table([*head, "width", "queries alone: holds it", "width"], rows)))


def measure(kind: str, count: int, correlation: float, *, worlds: int, queries: int) -> list[str]:
    """Returns a row of the table."""
    found, both, alone = [], [], []
    for seed in tqdm(range(worlds), desc=f"{kind}, {count}, {correlation}"):
        task, curve = steer(kind, count, correlation, seed=seed, queries=queries)
        assert task.resampling is not None
        fixed = replace(task.resampling, texts=np.ones_like(task.resampling.texts))
        found.append(curve.at(KEPT))
        both.append(curve.interval(KEPT))
        again = sweep(replace(task, resampling=fixed), kind, count, correlation, seed=seed)
        alone.append(again.interval(KEPT))
    truth = float(np.mean(found)) if correlation else 0.0
    return [
        kind,
        str(count),
        f"{correlation:g}",
        f"{np.mean(found):.3f}",
        f"{np.std(found):.3f}",
        *(text for bounds in (both, alone) for text in (held(bounds, truth), width(bounds))),
    ]


def held(bounds: list[tuple[float, float]], truth: float) -> str:
    return f"{np.mean([low <= truth <= high for low, high in bounds]):.0%}"


def width(bounds: list[tuple[float, float]]) -> str:
    return f"{np.mean([high - low for low, high in bounds]):.3f}"


def world(count: int, correlation: float, *, seed: int) -> tuple[Floats, Floats]:
    """Returns vectors, whose direction `PLACE` the labels follow, and labels."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, DIM)) * np.arange(1, DIM + 1) ** -0.5
    own = x[:, PLACE] / x[:, PLACE].std()
    labels = correlation * own + np.sqrt(1 - correlation**2) * rng.normal(size=count)
    return x, (labels - labels.mean()) / labels.std()


def steer(
    kind: str, count: int, correlation: float, *, seed: int, queries: int
) -> tuple[SteeringTask, Curve]:
    x, _ = world(count, correlation, seed=seed)
    groups: Ints = np.full(count, -1)
    task = SteeringTask.draw(
        unit(x).astype(np.float32),
        groups=groups,
        among=np.arange(count),
        count=queries,
        copies=2 if kind == KINDS[1] else 1,
    )
    return task, sweep(task, kind, count, correlation, seed=seed)


def sweep(task: SteeringTask, kind: str, count: int, correlation: float, *, seed: int) -> Curve:
    x, labels = world(count, correlation, seed=seed)
    rel = task.standardize(task.raw)
    if kind == "alike":
        own = np.stack([np.ones(count), 3 * x[:, PLACE] / x[:, PLACE].std()], axis=1)
        z = unit(own).astype(np.float32)
        return task.alike(rel, z[task.queries] @ z.T, codes=(labels > 0).astype(np.int64))
    score = x[:, PLACE]
    if kind == KINDS[1]:
        score = fitted_inside(x.astype(np.float32), labels, np.arange(count))
    return task.toward(rel, score, labels=labels)


if __name__ == "__main__":
    main()
