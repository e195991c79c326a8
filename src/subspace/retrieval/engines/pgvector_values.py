"""SQL with names and values of one's own in it, and values as PostgreSQL takes and gives them."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Vectors
from subspace.data.records import Scalar
from subspace.retrieval.engines.engine import Priors, Where, check_where

if TYPE_CHECKING:
    from psycopg import sql

# From here on Python writes floats as 1e+16, which PostgreSQL would give back as a whole number.
_EXPONENTS = 1e16


def compose(template: str, **parts: Any) -> "sql.Composed":
    """A statement with names, values and other pieces of SQL in its places."""
    from psycopg import sql

    return sql.SQL(template).format(**parts)


def quote_name(*parts: str) -> "sql.Identifier":
    """A quoted name; psycopg looks for placeholders in what is composed, so % is doubled."""
    from psycopg import sql

    return sql.Identifier(*(part.replace("%", "%%") for part in parts))


def quote_literal(text: str) -> "sql.Literal":
    """A quoted text, where PostgreSQL takes no parameter."""
    from psycopg import sql

    return sql.Literal(text.replace("%", "%%"))


def compose_filter(where: Where | None) -> tuple["sql.Composable", dict[str, Any]]:
    """The condition that metadata must meet, and the values of its placeholders."""
    from psycopg import sql

    conditions, values = [sql.Composed([sql.SQL("true")])], {}
    for number, (name, several) in enumerate(check_where(where).items()):
        key = f"where{number}"
        condition = "t.metadata @> ANY ({allowed}::text[]::jsonb[])"
        conditions.append(compose(condition, allowed=sql.Placeholder(key)))
        values[key] = [write_json({name: value}) for value in several]
    return sql.SQL(" AND ").join(conditions), values


def prior_values(priors: Priors | None) -> dict[str, Any]:
    """Priors as placeholders take them."""
    if priors is None:
        return {"ids": [], "values": [], "default": 0.0}
    values = priors.values.tolist()
    ids = priors.ids[: len(values)]  # it grows meanwhile
    kept = storable(ids)
    if len(kept) < len(ids):
        there = set(kept)
        values = [value for name, value in zip(ids, values, strict=True) if name in there]
    return {"ids": kept, "values": values, "default": float(priors.default)}


def storable(ids: Sequence[str]) -> list[str]:
    """Those ids that can be in a database at all: without NUL and half surrogate pairs."""
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
    """An object of JSON in which every number stays what it is, and equals what it equals."""
    pairs = [f"{json.dumps(name)}: {_write_scalar(value)}" for name, value in metadata.items()]
    return "{" + ", ".join(pairs) + "}"


def _write_scalar(value: Scalar) -> str:
    if isinstance(value, float) and abs(value) >= _EXPONENTS:
        return f"{value:.1f}"
    return json.dumps(value)


def to_array(embedding: Any) -> Vectors:
    """A vector as pgvector's package gives it: an array of numpy, or an object that makes one."""
    return np.asarray(embedding if isinstance(embedding, np.ndarray) else embedding.to_numpy())
