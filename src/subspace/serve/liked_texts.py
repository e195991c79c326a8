"""LikedTexts: what the ratings of each namespace say of the texts that it likes.

A direction is learned from the hits that were rated well beside those of the same searches that
were not, and learned again by the next search after ratings came or were forgotten, or a rated text
was changed or removed. Nothing of it is kept but the ratings themselves, in the usage log.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from subspace.data.ratings import LIKED, Rating, ratings_by_search
from subspace.errors import ConfigError
from subspace.files import sha256_bytes
from subspace.retrieval import Index
from subspace.retrieval.usage.rated_hits import read_rated_hits

# Namespaces whose directions are in memory; another is learned again when it is asked for.
_KEPT = 64
# Ratings that are learned from, the latest ones: a thousand would take a second.
_MOST = 500


@dataclass(frozen=True, eq=False)
class Learned:
    """What was learned of one namespace.

    Attributes:
        index: Searches toward `liked`; None if nothing was learned.
        told: What the model notes of it: `trust`, `follows` and `feedback`; see `Model.adapted`.
        reason: Why nothing was learned; empty if something was.
    """

    index: Index | None
    told: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Known:
    """What was learned, and from what: ratings (see `UsageLog.rated`) of items as they were."""

    index: Index
    rated: tuple[int, int]
    items: Sequence[str]
    digest: str
    state: Hashable
    learned: Learned


class LikedTexts:
    """The directions of namespaces; any number of threads may ask for them."""

    def __init__(self) -> None:
        """Starts without directions."""
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def of(self, index: Index, *, namespace: str) -> Learned:
        """Returns what the ratings that are in the log now say.

        Raises:
            UsageLogError: The log cannot be read.
        """
        histories = index.blocks.histories
        if histories is None:
            return Learned(None, reason="there is no usage log")
        rated = histories.log.rated(namespace=namespace)
        with self._lock:  # others wait for a moment, rather than learn the same
            before = self._known.get(namespace)
            known = None if before is None else _still_true(before, index, rated=rated)
            if known is None:
                self._drop_others(index)
                known = _learn_anew(index, namespace=namespace, rated=rated)
            self._known[namespace] = known
            self._known.move_to_end(namespace)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return known.learned

    def _drop_others(self, index: Index) -> None:
        """Forgets what was learned in an index that was opened before, so that it can be freed."""
        for namespace in [name for name, one in self._known.items() if one.index is not index]:
            del self._known[namespace]


def _still_true(known: _Known, index: Index, *, rated: tuple[int, int]) -> _Known | None:
    """Returns what is known if ratings and items are what they were; None if they are not."""
    if known.index is not index or known.rated != rated:
        return None
    state = index.blocks.engine.state()
    if state is None or state != known.state:
        if _digest(index, known.items) != known.digest:
            return None
        return replace(known, state=state)
    return known


def _learn_anew(index: Index, *, namespace: str, rated: tuple[int, int]) -> _Known:
    assert index.blocks.histories is not None
    # The state is asked for first: what changes meanwhile is compared by the next search.
    state = index.blocks.engine.state()
    ratings = read_rated_hits(index.blocks.histories.log, namespace=namespace)[-_MOST:]
    items = tuple(dict.fromkeys(one.item for one in ratings))
    digest = _digest(index, items)
    return _Known(index, rated, items, digest, state, _learn(index, ratings))


def _digest(index: Index, items: Sequence[str]) -> str:
    """Returns a digest of those of the items that are there, with their vectors."""
    found = index.blocks.engine.fetch(items)
    names = "\0".join(document.id for document in found.documents)
    return sha256_bytes(names.encode() + found.vectors.tobytes())


def _learn(index: Index, ratings: Sequence[Rating]) -> Learned:
    if not ratings:
        return Learned(None, reason="no hits of searches were rated")
    view = index.view()
    try:
        told = view.adapt(ratings=ratings).adapted["factors"][LIKED]
    except ConfigError as error:
        return Learned(None, {"feedback": ratings_by_search(ratings)}, reason=str(error))
    if not told["trust"]:
        return Learned(None, told, reason="what is liked follows no pattern so far")
    return Learned(view, told)
