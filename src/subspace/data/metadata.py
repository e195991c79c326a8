"""Metadata: JSON values by name, kept as they are or refused by name."""

import math
from collections.abc import Mapping
from typing import Any

from subspace.files import Problems

# What a search can filter by; a list is searched by its members.
Scalar = str | float | bool
# What metadata can hold: a scalar, None, a list of values, or values by name (with texts as names).
Value = Any

# Values nested deeper are refused: databases and parsers have limits of their own.
_DEEPEST = 32
# Python reads and writes whole numbers of up to 4,300 digits.
_MOST_BITS = 14_000


def read_metadata(
    value: object, *, key: str, where: str, problems: Problems
) -> dict[str, Value] | None:
    """Reads the object under `key`; adds a problem and returns None if a value cannot be kept."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        problems.add(where, f"'{key}' must hold values by name, got {shown(value)}")
        return None
    for name, one in value.items():
        fault = find_fault({name: one})
        if fault is not None:
            problems.add(where, f"'{key}' cannot keep {name!r:.60}: {fault}")
            return None
    return dict(value)


def find_clash(factors: Mapping[str, Value], metadata: Mapping[str, Value]) -> str | None:
    """Returns what is wrong if labels and metadata have two values of one name; None if none has.

    A search filters by both, under their names.
    """
    for name in factors.keys() & metadata.keys():
        if factors[name] != metadata[name]:
            return (
                f"{name!r:.60} is {shown(factors[name])} in 'factors' and {shown(metadata[name])} "
                "in 'metadata', and a search filters by both: rename or remove one"
            )
    return None


def find_fault(value: object, *, depth: int = 0) -> str | None:
    """Returns why some engine could not keep a value of metadata; None if all can."""
    if depth > _DEEPEST:
        return f"it is nested in more than {_DEEPEST} levels"
    if isinstance(value, dict):
        names = next((f"a name is {shown(name)}" for name in value if not is_text(name)), None)
        return names or _first_fault(value.values(), depth=depth)
    if isinstance(value, list):
        return _first_fault(value, depth=depth)
    if value is None or is_scalar(value):
        return None
    return (
        "a value is a text without NUL and half surrogate pairs, a truth value, a finite number, "
        f"null, or a list or an object of these, not {shown(value)}"
    )


def is_scalar(value: object) -> bool:
    """Tells whether a value is one that a search can filter by in every engine."""
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return value.bit_length() <= _MOST_BITS
    return math.isfinite(value) if isinstance(value, float) else is_text(value)


def is_text(value: object) -> bool:
    """Tells whether a value is a text that every engine and file can hold: no NUL or surrogates."""
    if not isinstance(value, str) or "\0" in value:
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def shown(value: Any) -> str:
    """Shortens a value for a message; ints too long for Python to print become a number of bits."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return (
            f"a number of {value.bit_length()} bits" if isinstance(value, int) else "such a value"
        )
    except RecursionError:
        return f"a {type(value).__name__}"


def _first_fault(values: Any, *, depth: int) -> str | None:
    faults = (find_fault(value, depth=depth + 1) for value in values)
    return next((fault for fault in faults if fault is not None), None)
