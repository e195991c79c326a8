"""Adapts the blocks of a model to a few labels of the user's own texts; documents stay as they are.

Numbers and comparisons give the factor another direction in its block, for which the model's own is
what is believed before. Classes give directions, and change the queries of the block, so that a
weight on it prefers texts of the query's own classes; see `ClassNearness`. A factor without a
block is read from all blocks: a search can move toward it, but cannot weigh it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.comparisons import Comparison
from subspace.data.labels import control_labels, standardise
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.model.class_nearness import ClassNearness, softmax
from subspace.model.few_labels import ClassFit, fit_classes, fit_numbers
from subspace.model.length import log_words
from subspace.model.linear_heads import LinearHead, read_by

if TYPE_CHECKING:
    from subspace.model.model import Model

# Fewer labels, or comparisons, of a factor say too little.
MIN_LABELS = 5
# By how many standard deviations of the block's cosine the classes move a score, if their labels
# can be trusted; chosen on corpora that the reference did not learn from (LOG.md).
_STRENGTH = 3.0
_SAMPLE = 1000
# Fewer texts do not tell how the scores of a block vary.
_FEW = 10
# Maximum number of classes that a message lists.
_SHOWN = 12


def adapt_to_labels(
    model: "Model",
    records: Sequence[Record],
    blocks: Vectors,
    *,
    comparisons: Sequence[Comparison] = (),
    corpus: Vectors,
) -> "Model":
    """Adapts a model to labels and comparisons of some texts.

    A factor whose left-out labels cannot be predicted from the others stays as it was.

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
    if len(corpus) < _FEW:  # too few to measure how scores vary
        corpus = np.concatenate([corpus, blocks])
    named = [name for record in records for name in record.factors]
    factors = dict.fromkeys([*named, *(one.factor for one in comparisons)])
    heads, nearness = dict(model.heads), dict(model.nearness)
    told: dict[str, dict[str, Any]] = {}
    for factor in factors:
        place = read_by(factor, model.layout)
        # A mean squared length of 1, whether it is one block or all of them.
        scale = 1 if factor in model.layout.names else 1 / np.sqrt(len(model.layout))
        z, around = (scale * part[:, place].astype(np.float64) for part in (blocks, corpus))
        rows = [row for row, record in enumerate(records) if factor in record.factors]
        values: Sequence[str | float] = [records[row].factors[factor] for row in rows]
        compared = [one for one in comparisons if one.factor == factor]
        if any(isinstance(value, str) for value in values):
            names, codes = _classes(factor, values, compared)
            fit = fit_classes(z[rows], codes, groups=_groups([records[row] for row in rows]))
            trust, weight = fit.trust, fit.weight
            near = None
            if factor in model.layout.names and not model.default_weights[factor]:
                near = _nearness(fit, around, before=z[rows].mean(axis=0))
        else:
            names, near = None, None
            rows, values = _enough_numbers(factor, rows, values, compared)
            found = fit_numbers(
                z[rows],
                _controlled(factor, [records[row] for row in rows]),
                groups=_groups([records[row] for row in rows]),
                pairs=_differences(z, records, compared),
                texts=_ends(records, compared),
                reference=_reference(model, factor, around),
                scale=np.cov(around.T),
            )
            trust, weight = found.trust, found.weight[None]
        told[factor] = {"labels": len(rows), "comparisons": len(compared), "trust": trust}
        if not trust:
            continue  # the labels tell nothing: all stays as it was
        heads[factor] = LinearHead((scale * weight).astype(np.float32), bias=None, classes=names)
        nearness.pop(factor, None)
        if near is not None:
            nearness[factor] = near
    return model.changed(heads=heads, nearness=nearness, adapted=_note(model, told, records))


def _controlled(factor: str, labelled: Sequence[Record]) -> Floats:
    """Returns numbers with the number of words regressed out (N,)."""
    if not labelled:
        return np.zeros(0)
    values = np.array([record.factors[factor] for record in labelled], dtype=np.float64)
    labels = control_labels(values, [log_words([record.text for record in labelled])])
    if not labels.any():
        raise ConfigError(
            f"the number of words explains all labels of '{factor}': label texts of other "
            "lengths, so that the factor can be told from the length"
        )
    return labels


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
    more, less = _ends(records, comparisons).T
    return np.asarray(z[more] - z[less])


def _ends(records: Sequence[Record], comparisons: Sequence[Comparison]) -> Ints:
    """Returns the positions of the texts of each comparison, more and less (M, 2)."""
    place = {record.id: row for row, record in enumerate(records)}
    ends = [(place[one.more], place[one.less]) for one in comparisons]
    return np.array(ends, dtype=np.int64).reshape(-1, 2)


def _groups(records: Sequence[Record]) -> Ints:
    """Returns a number for the group of each record, -1 for none."""
    numbers = {name: n for n, name in enumerate(dict.fromkeys(one.group for one in records))}
    return np.array(
        [-1 if one.group is None else numbers[one.group] for one in records], dtype=np.int64
    )


def _classes(
    factor: str, values: Sequence[str | float], comparisons: Sequence[Comparison]
) -> tuple[tuple[str, ...], Ints]:
    if comparisons or not all(isinstance(value, str) for value in values):
        raise ConfigError(
            f"'{factor}' has classes as labels, and numbers or comparisons beside them: give one "
            "kind"
        )
    counts = Counter(map(str, values))
    if len(counts) < 2:
        (name,) = counts
        raise ConfigError(
            f"all {len(values)} labels of '{factor}' are '{name}': label texts of another class, "
            "or leave the factor out"
        )
    rare = [name for name, count in counts.items() if count < 2]
    if rare or len(values) < MIN_LABELS:
        shown = ", ".join(f"{count} {name}" for name, count in counts.most_common()[-_SHOWN:])
        raise ConfigError(
            f"'{factor}' has too few labels ({shown}): give {MIN_LABELS} or more, two of each "
            "class, or leave the factor out"
        )
    if all(_reads_as_number(name) for name in counts):
        raise ConfigError(
            f"the labels of '{factor}' are texts that read as numbers, such as "
            f"'{next(iter(counts))}': write numbers without quotes, or name the classes"
        )
    names, codes = np.unique([str(value) for value in values], return_inverse=True)
    return tuple(map(str, names)), codes


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _enough_numbers(
    factor: str,
    rows: list[int],
    values: Sequence[str | float],
    comparisons: Sequence[Comparison],
) -> tuple[list[int], Sequence[str | float]]:
    """Returns rows and values of the labels; none where they are too few beside comparisons."""
    if max(len(rows), len(comparisons)) < MIN_LABELS:
        raise ConfigError(
            f"'{factor}' has {len(rows)} labels and {len(comparisons)} comparisons: give "
            f"{MIN_LABELS} or more of one kind, or leave the factor out"
        )
    if len(rows) < MIN_LABELS:
        return [], []
    if not standardise(np.array(values, dtype=np.float64)).any():
        rounded = " up to rounding" if len(set(values)) > 1 else ""
        raise ConfigError(
            f"all {len(values)} labels of '{factor}' are {values[0]:g}{rounded}: label texts that "
            "have more or less of it, or leave the factor out"
        )
    return rows, values


def _check_ids(records: Sequence[Record], comparisons: Sequence[Comparison]) -> None:
    if not comparisons and not any(record.factors for record in records):
        raise ConfigError("there are no labels (`factors`) and no comparisons to adapt to")
    ids = Counter(record.id for record in records)
    named = dict.fromkeys(name for one in comparisons for name in (one.more, one.less))
    twice = next((name for name in named if ids[name] > 1), None)
    if twice is not None:
        raise ConfigError(f"two texts have the id '{twice}': comparisons cannot tell them apart")
    missing = [name for name in named if not ids[name]]
    if missing:
        raise ConfigError(
            f"comparisons name texts that are neither among the records nor in an index: "
            f"{', '.join(missing[:5])}"
        )


def _note(
    model: "Model", told: Mapping[str, Mapping[str, Any]], records: Sequence[Record]
) -> dict[str, Any]:
    """Returns what the adapted model keeps of where it comes from, JSON-ready."""
    before = dict(model.adapted.get("factors", {}))
    origins = {
        factor: sorted({r.origins.get(factor, "human") for r in records if factor in r.factors})
        for factor in told
    }
    factors = {name: {**one, "origins": origins[name]} for name, one in told.items()}
    return {"parent": model.digest, "factors": {**before, **factors}}
