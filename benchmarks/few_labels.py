"""What a few labels of a corpus add: how far a weight moves hits, against the number of labels.

    python benchmarks/few_labels.py --data SAMPLE --exclude qulac ag_news banking77 scitldr \
        --output runs/few

Every source is left out of a fit on the others, with its kin. Half of its groups give labels, the
other half queries and candidates; blocks are centred on all of its texts. The figure is that of
`subspace bench steer` at 90 % of the relevance kept, as a mean over draws of halves and labels.

Contenders: the fit itself; the fit adapted to labels, in its blocks or with dimensions from the
layers, to comparisons of as many pairs, to as many ratings of hits (five of each search, by a
reader who likes what has less of the factor), to shuffled labels, and to labels of texts that
`subspace label --pick` chooses; and what needs no blocks: a logistic or ridge regression on the
encoder's last layer, or on all of its layers, as a re-ranker.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from tqdm import tqdm

import subspace
from subspace.arrays import AnyFloats, Ints, Vectors
from subspace.blocks import Blocks, unit
from subspace.data import Comparison, Rating, read_sources
from subspace.data.labels import control_labels
from subspace.data.ratings import LIKED
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError
from subspace.evaluation.cross_corpus import folds
from subspace.evaluation.steering import SteeringTask
from subspace.fitting import WeakSupervision
from subspace.fitting.block_spec import DEFAULT_LAYERS, default_blocks
from subspace.fitting.closed_form import solvable, solve_closed_form
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.heads import fit_heads
from subspace.fitting.stored_sources import StoredSource
from subspace.labelling.pick import pick
from subspace.model.adapt_labels import adapt_to_labels
from subspace.model.document_sample import DocumentSample

KIN = (
    "isarcasm,sarcasmsign,flute,pie_idioms",
    "brown,gum,gentle",
    "shakespeare,bible",
    "positive_frames,cad_sentiment",
    "infolossqa,laymaker",
    "mytomorrows,swipe",
)
FACTORS = ("style", "complexity", "specificity")
COUNTS = (20, 50, 200, 1000)
KEPT = 0.9
LEAST = 100
# Hits of each search that the reader rates.
RATED = 5


def models(data: FittingData, kin: list[list[str]]) -> Iterator[tuple[list[str], subspace.Model]]:
    """Yields a model of all other sources for each fold."""
    fingerprint = data.encoder.encoder.fingerprint
    counted = data.pseudo_labels()
    blocks = default_blocks(list(FACTORS), dim=fingerprint.dim, layers=fingerprint.layers)
    blocks |= {"topic": data.default_blocks()["topic"]}
    for fold in tqdm(folds(data.sources, kin), desc="folds"):
        labelled = {f for name in fold for f in data.sources[name].labels.columns}
        others = data.without(*fold)
        wanted = {n: spec for n, spec in blocks.items() if n == "topic" or n in labelled}
        solved = solvable(others.moments, blocks=wanted)
        if len(solved) < 2:
            continue
        projection = solve_closed_form(others.moments, blocks=solved, layers=fingerprint.layers)
        heads = fit_heads(
            projection,
            others.sources,
            vectors=others.vectors,
            pseudo_labels=counted,
            pseudo_weight=0.3,
            numbers_only=True,
        )
        yield (
            fold,
            subspace.Model(
                projection=projection,
                encoder=data.encoder.encoder.spec,
                fingerprint=fingerprint,
                heads=heads,
                default_weights={n: float(n == "topic") for n in projection.layout},
            ),
        )


class Source:
    """The texts of one source that are labelled with one factor, in two halves."""

    def __init__(
        self,
        model: subspace.Model,
        source: StoredSource,
        factor: str,
        *,
        vectors: Vectors,
        draw: int,
        queries: int,
    ) -> None:
        """Draws the halves, the labels' order and the queries."""
        column = source.labels.columns[factor]
        known = column.labelled
        self.records = [source.records[i] for i in known]
        self.x = np.asarray(vectors[source.rows[known]], dtype=np.float32)
        self.factor, self.ordered = factor, column.ordered
        self.codes = column.codes[known]
        self.words = np.log([len(r.text.split()) for r in self.records])
        groups = source.labels.groups[known]
        own = np.where(groups >= 0, groups, groups.max(initial=0) + 1 + np.arange(len(groups)))
        _, key = np.unique(own, return_inverse=True)
        half = np.random.default_rng(100 + draw).permutation(key.max() + 1) % 2
        self.labelled = np.random.default_rng(7 + draw).permutation(np.flatnonzero(half[key] == 0))
        width = self.x.shape[1] // len(model.fingerprint.layers)
        raw = unit(self.x[:, -width:])
        among = np.flatnonzero(half[key] == 1)
        self.task = SteeringTask.draw(
            raw, groups=groups, among=among, count=queries, seed=draw, resamples=0
        )
        self.rel = self.task.standardize(self.task.raw)
        self.z = model.centred_on(self.x).project(self.x).array
        self.last = self.x[:, -width:]
        self.labels = np.zeros(len(known))
        if column.values is not None:
            self.labels = control_labels(column.values[known], [self.words])

    def take(self, count: int) -> Ints:
        """Rows to label: `count` texts, or `count` of each class."""
        if self.ordered:
            return self.labelled[:count]
        codes = self.codes[self.labelled]
        return np.concatenate([self.labelled[codes == c][:count] for c in np.unique(codes)])

    def picked(self, model: subspace.Model, count: int) -> Ints:
        """Rows that `subspace label --pick` would choose to label."""
        rows = self.labelled
        scores = (self.z @ model.direction(self.factor))[rows].astype(np.float64)
        topics = self.z[rows][:, model.layout.slice("topic")]
        groups = [self.records[row].group for row in rows]
        return rows[
            pick(scores, topics, unit(self.last[rows]), count=min(count, len(rows)), groups=groups)
        ]

    def gain(self, model: subspace.Model) -> float:
        """How far a weight on the factor's block moves hits."""
        return self.gain_in(model, self.z)

    def gain_in(self, model: subspace.Model, z: Vectors) -> float:
        """The gain in an index of these blocks."""
        if self.ordered:
            return self.along(model, self.factor, z=z)
        place = model.layout.slice(self.factor)
        asked = model.near_classes(z[self.task.queries])[:, place]
        return self.alike(asked @ z[:, place].T)

    def along(self, model: subspace.Model, name: str, *, z: Vectors, sign: float = 1.0) -> float:
        """How far a direction moves hits; what follows the length is taken out of it."""
        texts = [record.text for record in self.records]
        trend = DocumentSample(texts, Blocks(z, model.layout)).length_trend
        return self.toward(sign * z @ trend.taken_out_of(model.direction(name)))

    def deeper(self, model: subspace.Model, rows: Ints, *, labels: Sequence[str | float]) -> float:
        """The gain of the model adapted with dimensions from the layers, as in a new index."""
        records = [
            replace(self.records[row], factors={self.factor: label})
            for row, label in zip(rows, labels, strict=True)
        ]
        adapted = model.adapt(records, vectors=self.x[rows], corpus=self.x, depth="layers")
        return self.gain_in(adapted, adapted.centred_on(self.x).project(self.x).array)

    def rated(self, model: subspace.Model, count: int, seed: int) -> float:
        """The gain of the model adapted to ratings of a reader who likes less of the factor."""
        asked = np.random.default_rng(seed).permutation(self.labelled)[: count // RATED]
        middle = float(np.median(self.labels[self.labelled]))
        raw, own = unit(self.last), [record.group for record in self.records]
        ratings = []
        for query in asked:
            others = [
                row
                for row in self.labelled
                if row != query and (own[row] is None or own[row] != own[query])
            ]
            hits = np.array(others)[np.argsort(-raw[others] @ raw[query])[:RATED]]
            ratings += [Rating(str(query), str(h), float(self.labels[h] < middle)) for h in hits]
        rows = np.unique([int(one.item) for one in ratings])
        adapted = self.adapted(model, rows, ratings=ratings)
        if LIKED not in adapted.heads:
            return 0.0
        return self.along(adapted, LIKED, z=self.z, sign=-1.0)

    def toward(self, scores: AnyFloats) -> float:
        """How far a score moves hits toward more and toward less."""
        return self.task.toward(self.rel, scores, labels=self.labels).at(KEPT)

    def alike(self, scores: AnyFloats) -> float:
        """How far a similarity (Q, N) moves hits toward the query's class."""
        return self.task.alike(self.rel, scores, codes=self.codes).at(KEPT)

    def adapted(
        self,
        model: subspace.Model,
        rows: Ints,
        *,
        labels: Sequence[str | float] = (),
        comparisons: Sequence[Comparison] = (),
        ratings: Sequence[Rating] = (),
    ) -> subspace.Model:
        """The model, adapted to labels of some rows; all texts are its corpus."""
        factors: list[dict[str, str | float]] = [{self.factor: label} for label in labels]
        records = [
            replace(self.records[row], id=str(row), factors=one)
            for row, one in zip(rows, factors or [{}] * len(rows), strict=True)
        ]
        corpus = self.z[:: max(1, len(self.z) // 2000)]
        return adapt_to_labels(
            model,
            records,
            self.z[rows],
            comparisons=comparisons,
            ratings=ratings,
            corpus=corpus,
        )

    def pairs(self, count: int, seed: int) -> tuple[Ints, list[Comparison]]:
        """Random pairs of texts to label, as a person would order them."""
        rng = np.random.default_rng(seed)
        found: list[tuple[int, int]] = []
        for _ in range(100 * count):
            a, b = rng.choice(self.labelled, 2, replace=False)
            if len(found) < count and self.labels[a] != self.labels[b]:
                found.append((a, b) if self.labels[a] > self.labels[b] else (b, a))
        rows = np.unique(found)
        comparisons = [Comparison(self.factor, str(a), str(b)) for a, b in found]
        return rows, comparisons

    def reranked(self, x: Vectors, rows: Ints) -> float:
        """A regression on vectors, with the same labels."""
        x = x - x.mean(axis=0)
        x = x / np.sqrt((x**2).sum(axis=1).mean())
        if self.ordered:
            values = [float(self.records[i].factors[self.factor]) for i in rows]
            targets = control_labels(np.array(values), [self.words[rows]])
            predicted = RidgeCV(10.0 ** np.arange(-4, 4)).fit(x[rows], targets).predict(x)
            return self.toward(control_labels(predicted, [self.words]))
        fitted = LogisticRegression(C=100, max_iter=300, tol=1e-3, class_weight="balanced")
        chances = fitted.fit(x[rows], self.codes[rows]).predict_proba(x)
        return self.alike(chances[self.task.queries] @ chances.T)


def measure(
    model: subspace.Model,
    source: StoredSource,
    factor: str,
    *,
    vectors: Vectors,
    draw: int,
    queries: int,
) -> dict[str, float]:
    """The figures of one draw, by contender and number of labels."""
    one = Source(model, source, factor, vectors=vectors, draw=draw, queries=queries)
    figures = {"reference 0": one.gain(model)}
    for count in COUNTS:
        rows = one.take(count)
        values = [one.records[i].factors[factor] for i in rows]
        mixed = [values[i] for i in np.random.default_rng(draw).permutation(len(rows))]
        try:
            start = time.perf_counter()
            adapted = one.adapted(model, rows, labels=values)
            figures[f"seconds {count}"] = time.perf_counter() - start
            figures[f"adapted {count}"] = one.gain(adapted)
            figures[f"shuffled {count}"] = one.gain(one.adapted(model, rows, labels=mixed))
        except ConfigError as error:  # labels all alike
            print(f"{source.labels.source}, {count} labels: {error}")
            continue
        figures[f"layers {count}"] = one.deeper(model, rows, labels=values)
        figures[f"layers, shuffled {count}"] = one.deeper(model, rows, labels=mixed)
        if one.ordered:
            with suppress(ConfigError):  # all hits of each search are rated alike
                figures[f"rated {count}"] = one.rated(model, count, draw)
            compared, pairs = one.pairs(count, draw)
            figures[f"pairs {count}"] = one.gain(one.adapted(model, compared, comparisons=pairs))
            picked = one.picked(model, count)
            told = [one.records[i].factors[factor] for i in picked]
            if len(set(told)) > 1:
                figures[f"picked {count}"] = one.gain(one.adapted(model, picked, labels=told))
        figures[f"last layer {count}"] = one.reranked(one.last, rows)
        figures[f"all layers {count}"] = one.reranked(one.x, rows)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+")
    parser.add_argument("--exclude", nargs="*", default=[])
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--factors", nargs="*", default=list(FACTORS))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--output", required=True)
    arguments = parser.parse_args()
    data = FittingData.encode(
        read_sources(arguments.data, exclude=arguments.exclude),
        encoder=EncoderSpec(model="minilm", layers=DEFAULT_LAYERS),
        weak=WeakSupervision(features=0.3),
        store=arguments.store,
        progress=True,
    )
    found: dict[str, dict[str, dict[str, list[float]]]] = {f: {} for f in arguments.factors}
    for fold, model in models(data, [group.split(",") for group in KIN]):
        for name in fold:
            for factor in measurable(data.sources[name], model):
                if factor not in arguments.factors:
                    continue
                of_source: dict[str, list[float]] = found[factor].setdefault(name, {})
                for draw in range(arguments.first, arguments.first + arguments.draws):
                    figures = measure(
                        model,
                        data.sources[name],
                        factor,
                        vectors=data.vectors,
                        draw=draw,
                        queries=arguments.queries,
                    )
                    for what, value in figures.items():
                        of_source.setdefault(what, []).append(value)
    means = {
        factor: {name: {w: float(np.mean(v)) for w, v in one.items()} for name, one in of.items()}
        for factor, of in found.items()
    }
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "few_labels.json").write_text(json.dumps(means, indent=1))
    draw_curves(means, output / "few_labels.png")
    for factor, of in means.items():
        print(f"\n{factor}: {len(of)} sources")
        for what in dict.fromkeys(what for one in of.values() for what in one):
            print(f"  {what:16s} {mean_of(of, what):.3f}")


def measurable(source: StoredSource, model: subspace.Model) -> list[str]:
    """The factors that a source has enough labels of, and the model a block."""
    found = []
    for factor, column in source.labels.columns.items():
        told = column.labelled
        if factor not in FACTORS or factor not in model.layout.names or len(told) < LEAST:
            continue
        if len(np.unique(column.codes[told])) > 1 and (factor in model.heads or not column.ordered):
            found.append(factor)
    return found


def mean_of(of: Mapping[str, Mapping[str, float]], what: str) -> float:
    """Mean over the sources that have a figure; NaN if none has."""
    found = [one[what] for one in of.values() if what in one]
    return float(np.mean(found)) if found else float("nan")


def draw_curves(means: Mapping[str, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Draws gain against the number of labels, a panel for each factor."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(means), squeeze=False)[0]
    lines = {"adapted": "C0", "layers": "C3", "all layers": "C1", "last layer": "C2"}
    for panel, (factor, of) in zip(panels, means.items(), strict=True):
        reference = mean_of(of, "reference 0")
        panel.axhline(reference, color="0.4", linestyle="--", label="the model as it is")
        for contender, colour in lines.items():
            values = [mean_of(of, f"{contender} {count}") for count in COUNTS]
            if not np.isfinite(values).any():
                continue
            named = {"adapted": "adapted", "layers": "adapted, with dimensions from the layers"}
            shown = named.get(contender, f"regression on {contender}")
            panel.plot(COUNTS, values, "o-", color=colour, label=shown)
        panel.set_xscale("log")
        counts = [count for count in COUNTS if np.isfinite(mean_of(of, f"adapted {count}"))]
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
        panel.set_title(f"{factor} ({len(of)} corpora)")
        panel.set_xlabel("labels of each class" if factor == "style" else "labels")
    panels[0].set_ylabel("what hits gain at 90 % kept")
    handles = panels[-1].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
