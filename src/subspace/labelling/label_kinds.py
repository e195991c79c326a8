"""Labels of one factor are of one kind, numbers or classes, and tell texts apart."""

import logging
from collections.abc import Mapping, Sequence

from subspace.labelling.annotator import Factors

_log = logging.getLogger(__name__)


def keep_one_kind(
    given: Mapping[str, Sequence[Factors]], *, factors: Sequence[str]
) -> Mapping[str, Sequence[Factors]]:
    """Leaves out labels that are numbers where the first ones are classes, or the other way round.

    What is left out is said in a warning: `subspace fit` could not read a factor of both kinds.

    Args:
        given: By origin, the labels of each text; those that decide come first.
        factors: The factors to look at.
    """
    kept = {origin: [dict(labels) for labels in own] for origin, own in given.items()}
    for factor in factors:
        first: tuple[str, str | float] | None = None
        for origin, own in kept.items():
            count = 0
            for labels in own:
                if factor not in labels:
                    continue
                if first is None:
                    first = origin, labels[factor]
                if _is_class(labels[factor]) != _is_class(first[1]):
                    del labels[factor]
                    count += 1
            if count and first is not None:
                kind, other = ("numbers", "classes") if _is_class(first[1]) else _REVERSED
                _log.warning(
                    "labels of '%s' by %s that are left out: %d, which are %s, while those by %s "
                    "are %s (%.60r)",
                    *(factor, origin, count, kind, first[0], other, first[1]),
                )
    return kept


def warn_of_constants(given: Mapping[str, Sequence[Factors]], *, factors: Sequence[str]) -> None:
    """Warns of labels that are the same for all texts: they tell nothing apart."""
    for factor in factors:
        for origin, own in given.items():
            labels = [one[factor] for one in own if factor in one]
            if len(labels) > 1 and len(set(labels)) == 1:
                _log.warning(
                    "all %d labels of '%s' by %s are %.60r: these texts do not differ in it, and "
                    "nothing can be learned from that",
                    *(len(labels), factor, origin, labels[0]),
                )


_REVERSED = ("classes", "numbers")


def _is_class(label: str | float) -> bool:
    return isinstance(label, str)
