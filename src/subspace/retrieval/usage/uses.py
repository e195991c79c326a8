"""Use: one use of one item; and the rules that uses and namespaces must meet."""

import math
import unicodedata
from dataclasses import dataclass
from numbers import Real
from typing import Literal

from subspace.errors import UsageLogError

Clock = Literal["wall", "steps"]
CLOCKS: tuple[Clock, ...] = ("wall", "steps")

# Largest number of characters in the name of a namespace.
NAMESPACE_LENGTH = 200
_REFUSED = ("Cc", "Cs")


@dataclass(frozen=True)
class Use:
    """One use of one item.

    Attributes:
        item: The item's id.
        time: Seconds since 1970, or the number of the step.
        success: Success in [0, 1]; None if it was not rated.
        query: Id of the query that found the item; None if unknown.
        namespace: Whose use it is; empty for the namespace that every log has.
    """

    item: str
    time: float
    success: float | None = None
    query: str | None = None
    namespace: str = ""


def check_namespace(name: object, *, required: bool = False) -> str:
    """Returns the name of a namespace; raises unless it is one.

    Args:
        name: A text of at most 200 characters, without control characters.
        required: Whether the empty name, that of the namespace which every log has, is refused.

    Raises:
        UsageLogError: It is not such a text.
    """
    if not isinstance(name, str):
        raise UsageLogError(
            f"a namespace is a text, such as the name of an agent, got {name!r:.60}"
        )
    if required and not name:
        raise UsageLogError("the namespace is empty: give a name, or leave it out")
    if len(name) > NAMESPACE_LENGTH:
        raise UsageLogError(
            f"a namespace has at most {NAMESPACE_LENGTH} characters, {name[:20]!r}... has "
            f"{len(name)}"
        )
    # Cc: control characters; Cs: halves of a pair, which cannot be encoded.
    wrong = [] if name.isprintable() else [c for c in name if unicodedata.category(c) in _REFUSED]
    if wrong:
        raise UsageLogError(
            f"a namespace has no control characters, {name[:40]!r} has {wrong[0]!r}"
        )
    return name


def check_use(use: Use, *, latest: float) -> None:
    """Raises unless a use can be logged.

    Args:
        use: The use.
        latest: The largest time that is not in the future.

    Raises:
        UsageLogError: An id is empty, a success is outside [0, 1], a time is not finite or in the
            future, or the namespace is wrong.
    """
    if not is_id(use.item):
        raise UsageLogError(f"the item of a use must be its id, got {use.item!r:.60}")
    if not _is_number(use.time):
        raise UsageLogError(
            f"the time of a use of '{use.item}' must be a finite number, got {use.time!r:.60}"
        )
    if use.time > latest:
        raise UsageLogError(
            f"the use of '{use.item}' lies in the future: at {use.time}, and now is {latest}"
        )
    if use.success is not None and not (_is_number(use.success) and 0 <= use.success <= 1):
        raise UsageLogError(
            f"the success of '{use.item}' must be between 0 and 1, got {use.success!r:.60}"
        )
    if use.query is not None and not is_id(use.query):
        raise UsageLogError(f"the query of a use must be its id, got {use.query!r:.60}")
    check_namespace(use.namespace)


def is_id(value: object) -> bool:
    """Tells whether a value is a string that is not empty and can be encoded as UTF-8."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False
