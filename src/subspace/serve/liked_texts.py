"""LikedTexts: what the ratings of each namespace say of the texts that it likes.

A direction is learned from the hits that were rated well beside those of the same searches that
were not, and learned again by the next search after ratings came or were forgotten. Nothing of it
is kept but the ratings themselves, in the usage log.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subspace.data.ratings import LIKED
from subspace.errors import ConfigError
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


class LikedTexts:
    """The directions of namespaces; any number of threads may ask for them."""

    def __init__(self) -> None:
        """Starts without directions."""
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[tuple[Index, tuple[int, int]], Learned]]
        self._known = OrderedDict()

    def of(self, index: Index, *, namespace: str) -> Learned:
        """Returns what the ratings that are in the log now say.

        Raises:
            UsageLogError: The log cannot be read.
        """
        histories = index.blocks.histories
        if histories is None:
            return Learned(None, reason="there is no usage log")
        state = (index, histories.log.rated(namespace=namespace))
        with self._lock:  # others wait for a moment, rather than learn the same
            before, learned = self._known.get(namespace, (None, Learned(None)))
            if before != state:
                learned = _learn(index, namespace=namespace)
                self._known[namespace] = (state, learned)
            self._known.move_to_end(namespace)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return learned


def _learn(index: Index, *, namespace: str) -> Learned:
    assert index.blocks.histories is not None
    ratings = read_rated_hits(index.blocks.histories.log, namespace=namespace)
    if not ratings:
        return Learned(None, reason="no hits of searches were rated")
    view, ratings = index.view(), ratings[-_MOST:]
    try:
        told = view.adapt(ratings=ratings).adapted["factors"][LIKED]
    except ConfigError as error:
        return Learned(None, reason=str(error))
    if not told["trust"]:
        return Learned(None, told, reason="what is liked follows no pattern so far")
    return Learned(view, told)
