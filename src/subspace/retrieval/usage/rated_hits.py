"""Ratings of hits in a usage log: what a model can learn of the texts that are liked."""

from subspace.data.ratings import LIKED, Rating
from subspace.retrieval.usage.usage_log import UsageLog


def read_rated_hits(
    log: UsageLog,
    *,
    namespace: str = "",
    factor: str = LIKED,
) -> tuple[Rating, ...]:
    """Reads the ratings of hits in one namespace, in the order they were logged.

    Uses that were not rated, or that no search found, are left out.

    Args:
        log: The usage log.
        namespace: Whose ratings to read.
        factor: The factor that hits with more success have more of.

    Raises:
        UsageLogError: The name is not that of a namespace, or the log cannot be read.
    """
    return tuple(
        Rating(use.query, use.item, use.success, factor)
        for _, use in log.since(namespace=namespace)
        if use.query is not None and use.success is not None
    )
