"""Adapts the blocks of a model to a few labels of the user's own texts; documents stay as they are.

Numbers and comparisons give the factor another direction in its block, for which the model's own is
what is believed before. Classes give directions, and change the queries of the block, so that a
weight on it prefers texts of the query's own classes; see `ClassNearness`. A factor without a
block is read from all blocks: a search can move toward it, but cannot weigh it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.comparisons import Comparison
from subspace.data.labels import control_labels
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.model.class_nearness import ClassNearness
from subspace.model.few_labels import ClassFit, fit_classes, fit_numbers, softmax
from subspace.model.linear_heads import LinearHead, read_by

if TYPE_CHECKING:
    from subspace.model.model import Model

# Fewer labels, or comparisons, of a factor say too little.
MIN_LABELS = 5
# By how many standard deviations of the block's cosine the classes move a score, if their labels
# can be trusted; chosen on corpora that the reference did not learn from (LOG.md).
_STRENGTH = 3.0
_SAMPLE = 1000


def adapt_to_labels(
    model: "Model",
    records: Sequence[Record],
    blocks: Vectors,
    *,
    comparisons: Sequence[Comparison] = (),
    corpus: Vectors,
) -> "Model":
    """Adapts a model to labels and comparisons of some texts.

    Args:
        model: The model to start from.
        records: The texts, with `factors` where they are labelled.
        blocks: Their unit blocks (N, layout.dim), centred as in the corpus.
        comparisons: Which of two of the texts has more of a factor.
        corpus: Unit blocks of texts of the same kind (M, layout.dim), labelled or not.

    Raises:
        ConfigError: Labels are too few, all alike, or of two kinds; or a comparison names a text
            that is not there.
    """
    _check_ids(records, comparisons)
    factors = dict.fromkeys(
        [name for record in records for name in record.factors] + [c.factor for c in comparisons]
    )
    heads, nearness, told = dict(model.heads), dict(model.nearness), {}
    for factor in factors:
        place = read_by(factor, model.layout)
        width = len(model.layout) if factor not in model.layout.names else 1
        chosen = [i for i, record in enumerate(records) if factor in record.factors]
        values = [records[i].factors[factor] for i in chosen]
        compared = [one for one in comparisons if one.factor == factor]
        z, around = blocks[:, place] / np.sqrt(width), corpus[:, place] / np.sqrt(width)
        z, around = z.astype(np.float64), around.astype(np.float64)
        if any(isinstance(value, str) for value in values):
            if compared or not all(isinstance(value, str) for value in values):
                raise ConfigError(
                    f"'{factor}' has classes as labels, and numbers or comparisons beside them: "
                    "give one kind"
                )
            names, codes = _classes(factor, [str(value) for value in values])
            fit = fit_classes(z[chosen], codes, groups=_groups(records, chosen))
            heads[factor] = _head(fit.weight / np.sqrt(width), names)
            if factor in model.layout.names and not model.default_weights[factor]:
                nearness[factor] = _nearness(fit, around, before=z[chosen].mean(axis=0))
            trust = fit.trust
        else:
            _check_numbers(factor, [float(value) for value in values], compared)
            weight, trust = _direction(
                z,
                [records[i] for i in chosen],
                chosen,
                factor=factor,
                pairs=_differences(z, records, compared),
                reference=_reference(model, factor, around),
                around=around,
            )
            heads[factor] = _head(weight[None] / np.sqrt(width), None)
            nearness.pop(factor, None)
        told[factor] = {"labels": len(values), "comparisons": len(compared), "trust": trust}
    return replace(
        model,
        heads=heads,
        nearness=nearness,
        adapted=_note(model, told, records),
        folder=None,
    )


def _direction(
    z: Floats,
    labelled: Sequence[Record],
    rows: Sequence[int],
    *,
    factor: str,
    pairs: Floats,
    reference: Floats | None,
    around: Floats,
) -> tuple[Floats, float]:
    """Returns the direction of a factor of numbers, and how far its labels can be trusted."""
    labels = np.zeros(0)
    if labelled:
        words = np.log([len(record.text.split()) for record in labelled])
        labels = control_labels(np.array([record.factors[factor] for record in labelled]), [words])
        if not labels.any():
            raise ConfigError(
                f"the number of words explains all labels of '{factor}': label texts of other "
                "lengths, so that the factor can be told from the length"
            )
    fit = fit_numbers(
        z[list(rows)],
        labels,
        groups=_groups(labelled, range(len(labelled))),
        pairs=pairs,
        reference=reference,
        scale=np.cov(around.T) if len(around) > 1 else None,
    )
    return fit.weight, fit.trust


def _reference(model: "Model", factor: str, around: Floats) -> Floats | None:
    """Returns the model's own direction of a factor; its scores have deviation 1 in the corpus."""
    head = model.heads.get(factor)
    if head is None or head.classes is not None:
        return None
    direction = head.weight[0].astype(np.float64)
    spread = float((around @ direction).std())
    return direction / spread if spread else None


def _nearness(fit: ClassFit, around: Floats, *, before: Floats) -> ClassNearness:
    """Scales the two parts of a query so that the block's scores vary as much as before."""
    around = around[:: max(1, len(around) // _SAMPLE)]
    bias = -fit.sharpness * (fit.weight @ before)
    chances = softmax(fit.sharpness * (around @ fit.weight.T) + bias)
    mean = chances.mean(axis=0)
    cosines, classes = around @ around.T, (chances - mean) @ fit.weight @ around.T
    share = _STRENGTH * fit.trust * _spread(cosines) / (_spread(classes) or 1.0)
    scale = _spread(cosines) / (_spread(cosines + share * classes) or 1.0) or 1.0
    return ClassNearness(
        weight=fit.weight.astype(np.float32),
        bias=bias.astype(np.float32),
        mean=mean.astype(np.float32),
        sharpness=fit.sharpness,
        cosine=scale if share else 1.0,
        classes=scale * share,
    )


def _spread(scores: Floats) -> float:
    """Returns the standard deviation of the scores (Q, N) of a query."""
    return float(np.sqrt(scores.var(axis=1).mean()))


def _differences(z: Floats, records: Sequence[Record], comparisons: Sequence[Comparison]) -> Floats:
    place = {record.id: row for row, record in enumerate(records)}
    more = [place[one.more] for one in comparisons]
    less = [place[one.less] for one in comparisons]
    return np.asarray(z[more] - z[less])


def _groups(records: Sequence[Record], rows: Sequence[int]) -> Ints:
    """Returns a number for the group of each record, -1 for none."""
    names = [records[row].group for row in rows]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([-1 if name is None else numbers[name] for name in names], dtype=np.int64)


def _classes(factor: str, values: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(values) < MIN_LABELS or counts.min() < 2:
        few = ", ".join(f"{count} {name}" for name, count in zip(names, counts, strict=True))
        raise ConfigError(
            f"'{factor}' has too few labels ({few}): give {MIN_LABELS} or more, two of each class"
        )
    if len(names) < 2:
        raise ConfigError(
            f"all {len(values)} labels of '{factor}' are '{names[0]}': label texts of another class"
        )
    return tuple(map(str, names)), codes


def _check_numbers(factor: str, values: Sequence[float], comparisons: Sequence[Comparison]) -> None:
    if max(len(values), len(comparisons)) < MIN_LABELS:
        raise ConfigError(
            f"'{factor}' has {len(values)} labels and {len(comparisons)} comparisons: give "
            f"{MIN_LABELS} or more of one kind"
        )
    if values and len(set(values)) < 2:
        raise ConfigError(
            f"all {len(values)} labels of '{factor}' are {values[0]:g}: label texts that have more "
            "or less of it"
        )


def _check_ids(records: Sequence[Record], comparisons: Sequence[Comparison]) -> None:
    ids = [record.id for record in records]
    twice = next((name for name in ids if ids.count(name) > 1), None) if comparisons else None
    if twice is not None:
        raise ConfigError(f"two texts have the id '{twice}': comparisons cannot tell them apart")
    missing = [n for one in comparisons for n in (one.more, one.less) if n not in set(ids)]
    if missing:
        raise ConfigError(
            f"comparisons name texts that are not there: {', '.join(dict.fromkeys(missing[:5]))}"
        )
    if not any(record.factors for record in records) and not comparisons:
        raise ConfigError("there are no labels (`factors`) and no comparisons to adapt to")


def _head(weight: Floats, classes: tuple[str, ...] | None) -> LinearHead:
    return LinearHead(weight=weight.astype(np.float32), bias=None, classes=classes)


def _note(
    model: "Model", told: Mapping[str, Mapping[str, Any]], records: Sequence[Record]
) -> dict[str, Any]:
    """Returns what the adapted model keeps of where it comes from, JSON-ready."""
    before = model.adapted.get("factors", {})
    origins = {
        factor: sorted({r.origins.get(factor, "human") for r in records if factor in r.factors})
        for factor in told
    }
    factors = {name: {**one, "origins": origins[name]} for name, one in told.items()}
    return {"parent": model.digest, "factors": {**before, **factors}}
