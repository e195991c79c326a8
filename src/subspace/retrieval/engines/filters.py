"""Filters: conditions on metadata, and why a filter finds nothing.

`where` names metadata and says what an item must have::

    {"lang": "en"}                       this value
    {"lang": ["en", "de"]}               one of these
    {"year": {">=": 2020, "<": 2024}}    a number, or a text, in a range
    {"tags": "garden"}                   a list with this member

True is not 1, 1 is 1.0, and texts are ordered by their code points.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from subspace.data.metadata import Scalar, Value, is_scalar, is_text, shown
from subspace.errors import QueryError

# A filter: for each name of the metadata, the value that an item must have, or several to choose
# from, or the bounds of a range.
Where = Mapping[str, Scalar | Sequence[Scalar] | Mapping[str, Scalar]]

BOUNDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
_SCALARS = "a text, a truth value or a finite number"


@dataclass(frozen=True)
class Condition:
    """What an item must have under one name of its metadata.

    Attributes:
        name: The name.
        values: Values of which it must have one; none if `bounds` are given.
        bounds: Signs of `BOUNDS`, each with a number or a text: what is in the range. All are of
            one kind.
    """

    name: str
    values: tuple[Scalar, ...] = ()
    bounds: tuple[tuple[str, Scalar], ...] = ()

    def holds(self, value: Value) -> bool:
        """Tells whether a value, or a member of a list, is what the condition wants."""
        return any(map(self._holds_for, members(value)))

    def kinds(self) -> set[str]:
        """Returns the kinds of values that can meet the condition."""
        return {kind_of(one) for one in (*self.values, *(bound for _, bound in self.bounds))}

    def _holds_for(self, one: Value) -> bool:
        kind = kind_of(one)
        if self.values:
            return any(kind == kind_of(wanted) and one == wanted for wanted in self.values)
        return all(kind == kind_of(end) and BOUNDS[sign](one, end) for sign, end in self.bounds)


def check_where(where: Where | None) -> tuple[Condition, ...]:
    """Returns the conditions of a filter; none without a filter.

    Raises:
        QueryError: `where` is no mapping, a name is empty, no value is given, a value is no text,
            number or bool that engines can store, or a range has other signs or mixed kinds.
    """
    if where is not None and not isinstance(where, Mapping):
        raise QueryError(f"metadata is filtered by name, as {{'lang': 'en'}}, got {where!r:.60}")
    return tuple(_condition(name, wanted) for name, wanted in (where or {}).items())


def explain_nothing(where: Where | None, metadata: Iterable[Mapping[str, Value]]) -> str | None:
    """Returns why no item can pass a filter: a name or a kind of value that none of them has.

    Args:
        where: The filter.
        metadata: The metadata of all items.
    """
    conditions = check_where(where)
    names: dict[str, None] = {}
    kinds: dict[str, set[str]] = {condition.name: set() for condition in conditions}
    for values in metadata:
        names.update(dict.fromkeys(values))
        for name in kinds.keys() & values.keys():
            kinds[name].update(map(kind_of, members(values[name])))
    for condition in conditions:
        there = kinds[condition.name]
        if condition.name not in names:
            known = ", ".join(map(repr, list(names)[:10]))
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            return f"no item has metadata {condition.name!r:.60}; " + (
                f"there is {known}{more}" if names else "none of them has any metadata"
            )
        if not there & condition.kinds():
            found = " or ".join(sorted(there)) or "an empty list"
            wanted = " or ".join(sorted(condition.kinds()))
            hint = "; in quotes it is a text" if "text" in there else ""
            return f"metadata {condition.name!r:.60} is {found} here, never {wanted}{hint}"
    return None


def members(value: Value) -> Sequence[Value]:
    """Returns the members of a list, or a value that is no list as the only one."""
    return value if isinstance(value, list) else (value,)


def kind_of(value: Value) -> str:
    """Returns what a value is, in words: `a text`, `a number` and so on."""
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "null" if value is None else "an object or a list in a list"


def _condition(name: str, wanted: object) -> Condition:
    if not name or not is_text(name):
        raise QueryError(f"metadata is filtered by its name, got {name!r:.60}")
    if isinstance(wanted, Mapping):
        return Condition(name, bounds=_read_bounds(name, wanted))
    several = tuple(wanted) if isinstance(wanted, list | tuple | set) else (wanted,)
    for value in several:
        if not is_scalar(value):
            raise QueryError(f"metadata '{name}' can be {_SCALARS}, not {shown(value)}")
    if not several:
        raise QueryError(f"no value is given that metadata '{name}' may have")
    return Condition(name, values=several)


def _read_bounds(name: str, wanted: Mapping[object, object]) -> tuple[tuple[str, Scalar], ...]:
    bounds: list[tuple[str, Scalar]] = []
    for sign, end in wanted.items():
        if not isinstance(sign, str) or sign not in BOUNDS:
            raise QueryError(f"a range of '{name}' has {', '.join(BOUNDS)}, not {sign!r:.60}")
        if isinstance(end, bool) or not isinstance(end, int | float | str) or not is_scalar(end):
            raise QueryError(f"a range of '{name}' ends at a number or a text, not {shown(end)}")
        bounds.append((sign, end))
    if len({kind_of(end) for _, end in bounds}) != 1:
        raise QueryError(f"a range of '{name}' needs ends that are all numbers or all texts")
    return tuple(bounds)
