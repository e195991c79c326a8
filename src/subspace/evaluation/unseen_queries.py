"""Queries that a model did not learn from: others say nothing about how well it searches."""

from dataclasses import replace

from subspace.data.retrieval_sets import RetrievalSet, query_key
from subspace.model import Model


def keep_unseen(data: RetrievalSet, model: Model, *, name: str) -> tuple[RetrievalSet, str | None]:
    """Leaves out the queries that the search of a model was adapted to.

    Args:
        data: The set.
        model: The model; its recipe has the keys of the queries that it learned from.
        name: Name of the set in the warning.

    Returns:
        The set, and a warning or None. If no judged query would be left, all of them stay and the
        warning says so.
    """
    learned = {key for keys in model.recipe.get("queries", {}).values() for key in keys}
    unseen = {q: text for q, text in data.queries.items() if query_key(text) not in learned}
    seen = len(data.queries) - len(unseen)
    if not seen:
        return data, None
    if not any(data.relevant(query) for query in unseen):
        return data, (
            f"the checkpoint was fitted on all judged queries of '{name}' ({seen}): its results "
            "there say nothing about other queries"
        )
    return replace(data, queries=unseen), (
        f"{seen} of the {len(data.queries)} queries of '{name}' are left out: the checkpoint was "
        "fitted on them"
    )
