"""SQL with names and values filled in, and conversion of values to and from PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Vectors
from subspace.data.metadata import Value
from subspace.retrieval.engines.engine import Priors
from subspace.retrieval.engines.filters import Condition, Where, check_where

if TYPE_CHECKING:
    from psycopg import sql

# Python writes floats from here on as 1e+16, which PostgreSQL would return as a whole number.
_EXPONENTS = 1e16


def compose(template: str, **parts: Any) -> "sql.Composed":
    """Fills names, values and other pieces of SQL into the places of a statement."""
    from psycopg import sql

    return sql.SQL(template).format(**parts)


def quote_name(*parts: str) -> "sql.Identifier":
    """Quotes a name; doubles %, as psycopg looks for placeholders in composed statements."""
    from psycopg import sql

    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def quote_literal(text: str) -> "sql.Literal":
    """Quotes a text, for statements in which PostgreSQL takes no parameters."""
    from psycopg import sql

    return sql.Literal(text.replace("%", "%%"))


def compose_filter(where: Where | None) -> tuple["sql.Composable", dict[str, Any]]:
    """Returns the condition on metadata, and the values of its placeholders."""
    from psycopg import sql

    values: dict[str, Any] = {}
    conditions = [sql.Composed([sql.SQL("true")])]
    for number, condition in enumerate(check_where(where)):
        key = f"where{number}"
        if condition.bounds:
            composed, ends = _compose_range(condition, key=key)
            conditions.append(composed)
            values |= ends
            continue
        has_one = "t.metadata @> ANY ({allowed}::text[]::jsonb[])"
        conditions.append(compose(has_one, allowed=sql.Placeholder(key)))
        # The value itself, or a list with this member.
        forms = [one for value in condition.values for one in (value, [value])]
        values[key] = [write_json({condition.name: form}) for form in forms]
    return sql.SQL(" AND ").join(conditions), values


def _compose_range(condition: Condition, *, key: str) -> tuple["sql.Composed", dict[str, Any]]:
    """Returns the condition that a value, or a member of a list, is in a range."""
    from psycopg import sql

    number = not isinstance(condition.bounds[0][1], str)
    # CASE fixes the order: a text must not be cast to a number.
    one = "(m.value)::numeric" if number else "(m.value #>> '{{}}') COLLATE \"C\""
    tests, values = [], {f"{key}name": condition.name}
    for place, (sign, end) in enumerate(condition.bounds):
        values[f"{key}end{place}"] = _write_value(end) if number else str(end)
        tests.append(
            compose(
                f"{one} {sign} {{end}}::{'numeric' if number else 'text'}",
                end=sql.Placeholder(f"{key}end{place}"),
            )
        )
    composed = compose(
        """EXISTS (SELECT 1 FROM jsonb_array_elements(
            CASE WHEN jsonb_typeof(t.metadata -> {name}::text) = 'array'
            THEN t.metadata -> {name}::text
            ELSE jsonb_build_array(t.metadata -> {name}::text) END) AS m(value)
        WHERE CASE WHEN jsonb_typeof(m.value) = {kind} THEN {tests} ELSE false END)""",
        name=sql.Placeholder(f"{key}name"),
        kind=sql.Literal("number" if number else "string"),
        tests=sql.SQL(" AND ").join(tests),
    )
    return composed, values


def prior_values(priors: Priors | None) -> dict[str, Any]:
    """Returns priors as values of placeholders; leaves out ids that PostgreSQL cannot store."""
    if priors is None:
        return {"ids": [], "values": [], "default": 0.0}
    values = priors.values.tolist()
    ids = priors.ids[: len(values)]  # the list may have grown
    kept = storable(ids)
    if len(kept) < len(ids):
        there = set(kept)
        values = [value for name, value in zip(ids, values, strict=True) if name in there]
    return {"ids": kept, "values": values, "default": float(priors.default)}


def storable(ids: Sequence[str]) -> list[str]:
    """Returns the ids that PostgreSQL can store: those without NUL and surrogates."""
    together = "".join(ids)
    if together.isascii() and "\0" not in together:
        return list(ids)
    return [name for name in ids if "\0" not in name and _is_valid(name)]


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_json(metadata: Mapping[str, Value]) -> str:
    """Writes metadata as JSON in which PostgreSQL keeps the type and value of every number."""
    return _write_value(dict(metadata))


def _write_value(value: Value) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(name)}: {_write_value(one)}" for name, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_write_value, value)) + "]"
    if isinstance(value, float) and abs(value) >= _EXPONENTS:
        return f"{value:.1f}"
    return json.dumps(value)


def to_array(embedding: Any) -> Vectors:
    """Converts a vector from pgvector's package, a numpy array or its own type, to an array."""
    return np.asarray(embedding if isinstance(embedding, np.ndarray) else embedding.to_numpy())
