"""Adapts the blocks of a model to a few labels of the user's own texts.

Documents stay as they are, unless blocks take dimensions from the encoder's layers.

Numbers and comparisons give the factor another direction in its block, for which the model's own is
what is believed before. Classes give directions, and change the queries of the block, so that a
weight on it prefers texts of the query's own classes; see `ClassNearness`. A factor without a
block is read from all blocks: a search can move toward it, but cannot weigh it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import AnyFloats, Floats, Ints, Vectors
from subspace.blocks import BlockLayout
from subspace.data.comparisons import Comparison
from subspace.data.labels import control_labels, standardise
from subspace.data.ratings import Rating, compare_rated, ratings_by_search
from subspace.data.records import Record
from subspace.data.retrieval_sets import query_key
from subspace.errors import ConfigError
from subspace.model.adapt_layers import RawVectors, fit_class_layers, fit_layers
from subspace.model.class_nearness import ClassNearness, softmax
from subspace.model.few_labels import ClassFit, ClassStack, fit_classes, fit_numbers
from subspace.model.length import log_words
from subspace.model.linear_heads import LinearHead, read_by
from subspace.model.projection import Projection

if TYPE_CHECKING:
    from subspace.model.model import Model

# Fewer labels, or comparisons, of a factor say too little.
MIN_LABELS = 5
# By how many standard deviations of the block's cosine the classes move a score, if their labels
# can be trusted; chosen on corpora that the reference did not learn from (LOG.md).
_STRENGTH = 3.0
_SAMPLE = 1000
# A direction that the model has, as a feature of a factor that it does not have: by how many
# standard deviations of all other features together; chosen on one draw of labels (LOG.md).
_KNOWN = 2.0
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
    ratings: Sequence[Rating] = (),
    corpus: Vectors,
    raw: RawVectors | None = None,
) -> "Model":
    """Adapts a model to labels, comparisons and ratings of some texts.

    A factor whose left-out labels cannot be predicted from the others stays as it was.

    Args:
        model: The model to start from.
        records: The texts, with `factors` where they are labelled.
        blocks: Their unit blocks (N, layout.dim), centred as in the corpus.
        comparisons: Which of two of the texts has more of a factor.
        ratings: How well texts served as hits of a search; those of other texts are left out.
        corpus: Unit blocks of texts of the same kind (M, layout.dim), labelled or not.
        raw: Raw vectors of both, if blocks may take dimensions from the layers, so that an index
            has to be built again; None if documents are to stay as they are.

    Raises:
        ConfigError: Labels are too few, all alike, or of two kinds; or a comparison names a text
            that is not there.
    """
    labelled = bool(comparisons) or any(record.factors for record in records)
    ratings = _of_known_texts(ratings, records, needed=not labelled)
    comparisons = [*comparisons, *compare_rated(ratings)]
    _check_ids(records, comparisons, ratings=ratings)
    if len(corpus) < _FEW:  # too few to measure how scores vary
        corpus = np.concatenate([corpus, blocks])
        if raw is not None:
            raw = replace(raw, corpus=np.concatenate([raw.corpus, raw.records]))
    named = [name for record in records for name in record.factors]
    named += [one.factor for given in (comparisons, ratings) for one in given]
    heads, nearness = dict(model.heads), dict(model.nearness)
    projection = model.projection
    told: dict[str, dict[str, Any]] = {}
    # Factors without a block read all blocks, as they are when the others have their dimensions.
    for factor in sorted(dict.fromkeys(named), key=lambda name: name not in model.layout.names):
        rated = [one for one in ratings if one.factor == factor]
        given = _Given(
            factor=factor,
            records=records,
            comparisons=[one for one in comparisons if one.factor == factor],
            z=_read(model, factor, blocks),
            around=_read(model, factor, corpus),
            rated=len(rated),
            raw=raw,
        )
        now = model.changed(projection=projection, heads=heads)
        learned = _learn(now, given)
        told[factor] = learned.note | _note_of_ratings(rated)
        if learned.head is None:
            continue  # the labels tell nothing: all stays as it was
        if factor not in model.heads:
            told[factor]["follows"] = _follows(now, learned.head, corpus, factor=factor)
        heads[factor] = learned.head
        if learned.projection is not None and raw is not None:
            heads = _without(heads, model.layout, before=projection, after=learned.projection)
            projection = learned.projection
            centred = model.changed(projection=projection).centred_projection(raw.centre)
            blocks, corpus = centred(raw.records), centred(raw.corpus)
        nearness.pop(factor, None)
        if learned.nearness is not None:
            nearness[factor] = learned.nearness
    return model.changed(
        projection=projection,
        heads=heads,
        nearness=nearness,
        adapted=_note(model, told, records, comparisons),
    )


def _without(
    heads: Mapping[str, LinearHead], layout: BlockLayout, *, before: Projection, after: Projection
) -> dict[str, LinearHead]:
    """Returns heads that read nothing of dimensions that were replaced, where they read all."""
    replaced = (before.weight != after.weight).any(axis=1)
    return {
        name: head
        if name in layout.names
        else replace(head, weight=np.where(replaced, 0, head.weight).astype(np.float32))
        for name, head in heads.items()
    }


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class _Given:
    """What is told of one factor: texts, labels and comparisons.

    `z` and `around` are what the factor's head reads of the texts and of the corpus, with a mean
    squared length of 1; `rated` is the number of ratings behind the comparisons, and `raw` raw
    vectors, if the layers may be used.
    """

    factor: str
    records: Sequence[Record]
    comparisons: Sequence[Comparison]
    z: Floats
    around: Floats
    rated: int
    raw: RawVectors | None

    @cached_property
    def rows(self) -> list[int]:
        """Positions of the labelled texts."""
        return [n for n, record in enumerate(self.records) if self.factor in record.factors]

    @cached_property
    def values(self) -> list[str | float]:
        """The labels."""
        return [self.records[row].factors[self.factor] for row in self.rows]


@dataclass(frozen=True, eq=False)
class _Learned:
    """What one factor becomes (no head: what it was), and what is noted of it."""

    note: dict[str, Any]
    head: LinearHead | None
    nearness: ClassNearness | None = None
    projection: Projection | None = None


def _learn(model: "Model", given: _Given) -> _Learned:
    classes = any(isinstance(value, str) for value in given.values)
    return _learn_classes(model, given) if classes else _learn_numbers(model, given)


def _learn_classes(model: "Model", given: _Given) -> _Learned:
    factor, rows = given.factor, given.rows
    names, codes = _classes(factor, given.values, given.comparisons)
    groups = _groups([given.records[row] for row in rows])
    fit = fit_classes(given.z[rows], codes, groups=groups)
    note: dict[str, Any] = {"labels": len(rows), "comparisons": 0, "trust": fit.trust}
    nearness = factor in model.layout.names and not model.default_weights[factor]
    if given.raw is not None and nearness:
        deeper = fit_class_layers(
            model,
            factor,
            raw=given.raw,
            rows=rows,
            z=given.z[rows],
            codes=codes,
            groups=groups,
        )
        if deeper is not None:
            weight, stack = deeper.weight, deeper.stack
            note |= {"trust": stack.trust, "layers": stack.share}
            return _Learned(
                note,
                _head(model, factor, weight, classes=names),
                _nearness(weight, stack, deeper.corpus, labelled=deeper.records),
                deeper.projection,
            )
    if not fit.trust:
        return _Learned(note, None)
    near = _nearness(fit.weight, fit, given.around, labelled=given.z[rows]) if nearness else None
    return _Learned(note, _head(model, factor, fit.weight, classes=names), near)


def _learn_numbers(model: "Model", given: _Given) -> _Learned:
    factor, compared = given.factor, given.comparisons
    rows = _enough_numbers(given)
    labelled = [given.records[row] for row in rows]
    reference = _reference(model, factor, given.around)
    lift = np.eye(given.z.shape[1])
    if reference is None and compared:
        lift = _lift(model, given)
    targets, groups = _controlled(factor, labelled), _groups(labelled)
    found = fit_numbers(
        given.z[rows] @ lift,
        targets,
        groups=groups,
        pairs=_differences(given.z @ lift, given.records, compared),
        texts=_ends(given.records, compared),
        reference=reference,
        scale=None if reference is None else np.cov(given.around.T),
    )
    note: dict[str, Any] = {"labels": len(rows), "comparisons": len(compared)}
    if given.raw is not None and rows and factor in model.layout.names:
        deeper = fit_layers(
            model,
            factor,
            raw=given.raw,
            rows=rows,
            labels=targets,
            groups=groups,
            inside=found,
            reference=reference,
        )
        if deeper is not None:
            note |= {"trust": deeper.trust, "layers": deeper.share}
            head = _head(model, factor, deeper.weight[None])
            return _Learned(note, head, projection=deeper.projection)
    note |= {"trust": found.trust}
    if not found.trust:
        return _Learned(note, None)
    return _Learned(note, _head(model, factor, (lift @ found.weight)[None]))


def _read(model: "Model", factor: str, blocks: Vectors) -> Floats:
    """Returns what the head of a factor reads of unit blocks, with a mean squared length of 1."""
    own = blocks[:, read_by(factor, model.layout)].astype(np.float64)
    return np.asarray(_scale(model, factor) * own)


def _scale(model: "Model", factor: str) -> float:
    return 1.0 if factor in model.layout.names else float(1 / np.sqrt(len(model.layout)))


def _head(
    model: "Model", factor: str, weight: Floats, *, classes: tuple[str, ...] | None = None
) -> LinearHead:
    scaled = (_scale(model, factor) * weight).astype(np.float32)
    return LinearHead(scaled, bias=None, classes=classes)


def _lift(model: "Model", given: _Given) -> Floats:
    """Returns features (p, q) of comparisons of a factor that the model does not have.

    Known directions count as features of their own, so that few comparisons can choose among them.
    What a hit is about decides whether it serves one search, and tells nothing of the next one: in
    ratings, the blocks that a search without weights uses are left out.
    """
    lift = np.eye(given.z.shape[1])
    used = [name for name, weight in model.default_weights.items() if weight]
    if given.rated and given.factor not in model.layout.names and len(used) < len(model.layout):
        for name in used:
            lift[:, model.layout.slice(name)] = 0
    return np.concatenate([lift, _known(model, given.factor, given.around)], axis=1)


def _known(model: "Model", factor: str, around: Floats) -> Floats:
    """Returns the model's directions of numbers (p, M); their scores have deviation 1 around."""
    numbers = [
        model.directions[name].astype(np.float64)[read_by(factor, model.layout)]
        for name, head in model.heads.items()
        if head.classes is None and not model.default_weights.get(name, 1.0)
    ]
    known = np.array(numbers).reshape(len(numbers), around.shape[1]).T
    spread = (around @ known).std(axis=0)
    return np.asarray(_KNOWN * known[:, spread > 0] / spread[spread > 0])


def _follows(model: "Model", head: LinearHead, corpus: Vectors, *, factor: str) -> dict[str, float]:
    """Returns how a new direction goes along with the model's own: correlations in the corpus."""
    if head.classes is not None or len(corpus) < 2:
        return {}
    scores = corpus[:, read_by(factor, model.layout)] @ head.weight[0]
    found = {}
    for name, other in model.heads.items():
        if other.classes is None and name in model.layout.names:
            own = corpus[:, model.layout.slice(name)] @ other.weight[0]
            if scores.std() and own.std():
                found[name] = round(float(np.corrcoef(scores, own)[0, 1]), 3)
    return found


def _note_of_ratings(ratings: Sequence[Rating]) -> dict[str, Any]:
    """Returns the ratings as they are kept; nothing if there are none."""
    return {"feedback": ratings_by_search(ratings)} if ratings else {}


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


def _nearness(
    weight: Floats, fit: ClassFit | ClassStack, around: AnyFloats, *, labelled: AnyFloats
) -> ClassNearness:
    """Scales the two parts of a query so that the block's scores vary as much as before."""
    around = around[:: max(1, len(around) // _SAMPLE)].astype(np.float64)
    bias = -fit.sharpness * (weight @ labelled.mean(axis=0))
    chances = softmax(fit.sharpness * (around @ weight.T) + bias)
    mean = chances.mean(axis=0)
    cosines, classes = around @ around.T, (chances - mean) @ weight @ around.T
    share = _STRENGTH * fit.trust * _spread(cosines) / (_spread(classes) or 1.0)
    scale = _spread(cosines) / (_spread(cosines + share * classes) or 1.0) or 1.0
    return ClassNearness(
        weight=weight.astype(np.float32),
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


def _enough_numbers(given: _Given) -> list[int]:
    """Returns positions of the labelled texts; none where they are too few beside comparisons."""
    factor, values, compared = given.factor, given.values, len(given.comparisons)
    if max(len(values), compared) < MIN_LABELS:
        told = f"{len(values)} labels and {compared} comparisons"
        if given.rated and not values:
            ratings = "1 rating" if given.rated == 1 else f"{given.rated} ratings"
            told = f"{ratings}, which order {compared} pairs of hits"
            raise ConfigError(
                f"'{factor}' has {told}: {MIN_LABELS} or more are needed, of searches that had "
                "hits which served well and others which did not"
            )
        raise ConfigError(
            f"'{factor}' has {told}: give {MIN_LABELS} or more of one kind, or leave the factor out"
        )
    if len(values) < MIN_LABELS:
        return []
    if not standardise(np.array(values, dtype=np.float64)).any():
        rounded = " up to rounding" if len(set(values)) > 1 else ""
        raise ConfigError(
            f"all {len(values)} labels of '{factor}' are {values[0]:g}{rounded}: label texts that "
            "have more or less of it, or leave the factor out"
        )
    return given.rows


def _of_known_texts(
    ratings: Sequence[Rating], records: Sequence[Record], *, needed: bool
) -> list[Rating]:
    """Returns the ratings of texts that are there; raises if there are none and one is needed."""
    there = {record.id for record in records}
    known = [one for one in ratings if one.item in there]
    if needed and ratings and not known:
        raise ConfigError(
            f"none of the texts that were rated is there (any more), such as '{ratings[0].item}': "
            "they have to be among the records or in the index"
        )
    return known


def _check_ids(
    records: Sequence[Record], comparisons: Sequence[Comparison], *, ratings: Sequence[Rating]
) -> None:
    if not comparisons and not ratings and not any(record.factors for record in records):
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
    model: "Model",
    told: Mapping[str, Mapping[str, Any]],
    records: Sequence[Record],
    comparisons: Sequence[Comparison],
) -> dict[str, Any]:
    """Returns what the adapted model keeps of where it comes from, JSON-ready."""
    before = dict(model.adapted.get("factors", {}))
    origins = {
        factor: sorted({r.origins.get(factor, "human") for r in records if factor in r.factors})
        for factor in told
    }
    factors = {name: {**one, "origins": origins[name]} for name, one in told.items()}
    compared = {name for one in comparisons for name in (one.more, one.less)}
    texts = {query_key(r.text) for r in records if r.factors or r.id in compared}
    return {
        "parent": model.digest,
        "factors": {**before, **factors},
        "texts": sorted(texts | set(model.adapted.get("texts", ()))),
    }
