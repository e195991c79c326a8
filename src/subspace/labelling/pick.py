"""Chooses few texts of many that are worth a person's labels.

One text is chosen from each of equally filled quantiles of the model's present score of a factor,
as labels of texts that are all alike in the factor teach no direction. Within a quantile the text
comes from the topic (a k-means cluster) that was chosen from least, so that the factor and the
topic vary apart from each other. Within a topic it is drawn at random: the text that is farthest
from all others is often no text that anyone searches for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from subspace.arrays import Floats, Ints, Vectors
from subspace.blocks import unit
from subspace.errors import ConfigError

# Two texts with a larger cosine of raw embeddings are near-duplicates.
NEAR = 0.95
# Number of topics among which scored texts are chosen. Without scores there is one per text.
_TOPICS = 10
# Clusters are fitted on a sample.
_SAMPLE = 5000
_GOLDEN = (5**0.5 - 1) / 2
_Mask = npt.NDArray[np.bool_]


def pick(
    scores: Floats | None,
    topics: Vectors,
    raw: Vectors,
    *,
    count: int,
    groups: Sequence[str | None],
    seed: int = 0,
) -> Ints:
    """Chooses texts that cover scores and topics, and no two that say almost the same.

    The texts come in an order in which the first few cover the scores, too. If near-duplicates
    leave no others, fewer texts are chosen.

    Args:
        scores: The factor's present score of N texts (N,), or None if there is none.
        topics: Their topic blocks (N, T).
        raw: Their raw embeddings (N, D); no two of the chosen ones have a cosine above `NEAR`.
        count: How many texts to choose.
        groups: For each text the group of texts that say the same, from which at most one is
            chosen, or None.
        seed: Of the draws; the same seed chooses the same texts.

    Returns:
        The places of the chosen texts, at most `count` of 0 to N - 1.

    Raises:
        ConfigError: There are fewer texts than are to be chosen, or `count` or `seed` is too small.
    """
    if count < 1 or seed < 0:
        raise ConfigError(f"pick 1 text or more, with a seed of 0 or more; got {count} and {seed}")
    if count > len(raw):
        raise ConfigError(f"cannot pick {count} texts, there are {len(raw)}: pick {len(raw)}")
    rng = np.random.default_rng(seed)
    draw = rng.permutation(len(raw))
    rank = draw if scores is None else np.argsort(np.lexsort((draw, scores)))
    # In this order of quantiles every beginning is spread evenly (three gaps theorem).
    quantiles = np.argsort((np.arange(count) * _GOLDEN + rng.random()) % 1)
    clusters = _cluster(topics, count=count if scores is None else min(count, _TOPICS), seed=seed)
    free = _Free(unit(raw), groups=groups)
    used = np.zeros(clusters.max() + 1, np.int64)
    chosen: list[int] = []

    def choose(among: _Mask) -> bool:
        places = np.flatnonzero(among)
        if not len(places):
            return False
        least = places[used[clusters[places]] == used[clusters[places]].min()]
        place = int(least[draw[least].argmin()])
        chosen.append(place)
        used[clusters[place]] += 1
        free.take(place)
        return True

    if scores is None:
        while len(chosen) < count and choose(free.mask):
            pass
        return np.asarray(chosen, np.int64)
    quantile = rank * count // len(raw)
    empty = [one for one in quantiles.tolist() if not choose(free.mask & (quantile == one))]
    for one in empty:  # its texts are near-duplicates of others: the text with the nearest score
        if free.mask.any():
            middle = (one + 0.5) * len(raw) / count
            away = np.where(free.mask, np.abs(rank + 0.5 - middle), np.inf)
            choose(free.mask & (away == away.min()))
    return np.asarray(chosen, np.int64)


class _Free:
    """Texts that are not chosen, nor near-duplicates of a chosen one, nor of its group."""

    def __init__(self, raw: Vectors, *, groups: Sequence[str | None]) -> None:
        self.mask: _Mask = np.ones(len(raw), np.bool_)
        self._raw = raw
        self._groups = np.asarray(groups, object)

    def take(self, place: int) -> None:
        self.mask &= self._raw @ self._raw[place] <= NEAR
        if self._groups[place] is not None:
            self.mask &= self._groups != self._groups[place]
        self.mask[place] = False  # also if its vector is zero


def _cluster(topics: Vectors, *, count: int, seed: int) -> Ints:
    """Returns the cluster of each text (N,), counted from 0, by k-means."""
    from sklearn.cluster import KMeans  # takes long to import

    sample = topics[np.random.default_rng(seed).permutation(len(topics))[:_SAMPLE]]
    distinct = len(np.unique(sample, axis=0))
    fitted = KMeans(min(count, distinct), n_init=4, random_state=seed).fit(sample)
    return np.asarray(fitted.predict(topics), np.int64)
