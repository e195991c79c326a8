"""Queries that a checkpoint did not learn from: the only ones that say what it is worth."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subspace.data.retrieval_sets import RetrievalSet
    from subspace.model import Checkpoint


def keep_unseen(
    data: "RetrievalSet", checkpoint: "Checkpoint", *, name: str
) -> "tuple[RetrievalSet, str | None]":
    """The set without the queries that blocks were learned from, and what to say of it.

    Where nothing is left all of it stays: the warning is what counts then.
    """
    learned: Mapping[str, str] = checkpoint.training.get("pairs_sha256", {})
    if data.judgements_sha256 not in learned.values():
        return data, None
    unseen = {query: text for query, text in data.queries.items() if data.split(query) != "train"}
    seen = len(data.queries) - len(unseen)
    if not unseen:
        return data, (
            f"the checkpoint learned from all {seen} queries of '{name}': how well its blocks "
            "match and answer search there says nothing of other queries"
        )
    said = (
        f"{seen} of {seen + len(unseen)} queries of '{name}' are left out: they were learned from"
    )
    return replace(data, queries=unseen), said
