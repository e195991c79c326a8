"""SQL with names and values filled in, and conversion of values to and from PostgreSQL."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Vectors
from subspace.data.records import Scalar
from subspace.retrieval.engines.engine import Priors, Where, check_where

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

    conditions, values = [sql.Composed([sql.SQL("true")])], {}
    for number, (name, several) in enumerate(check_where(where).items()):
        key = f"where{number}"
        condition = "t.metadata @> ANY ({allowed}::text[]::jsonb[])"
        conditions.append(compose(condition, allowed=sql.Placeholder(key)))
        values[key] = [write_json({name: value}) for value in several]
    return sql.SQL(" AND ").join(conditions), values


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


def write_json(metadata: Mapping[str, Scalar]) -> str:
    """Writes metadata as JSON in which PostgreSQL keeps the type and value of every number."""
    pairs = [f"{json.dumps(name)}: {_write_scalar(value)}" for name, value in metadata.items()]
    return "{" + ", ".join(pairs) + "}"


def _write_scalar(value: Scalar) -> str:
    if isinstance(value, float) and abs(value) >= _EXPONENTS:
        return f"{value:.1f}"
    return json.dumps(value)


def to_array(embedding: Any) -> Vectors:
    """Converts a vector from pgvector's package, a numpy array or its own type, to an array."""
    return np.asarray(embedding if isinstance(embedding, np.ndarray) else embedding.to_numpy())
