"""A block learned from pairs: what queries and their relevant documents have in common.

With x_q and x_d the embeddings of the two texts of a pair, the within-pair scatter::

    S_w = mean over pairs of (x_q - x_d)(x_q - x_d)' / 2

holds what differs although the texts belong together, and S_t the variance of all texts. The rows
are the leading directions w of S_t w = lambda S_w w, scaled to w' S_w w = 1, so that an inner
product counts a direction by how much more it varies between texts than within pairs (within-class
covariance normalisation, Hatch et al. 2006). S_w is shrunk towards a multiple of the identity.
"""

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from subspace.blocks import BlockLayout
from subspace.errors import ConfigError, LayoutError
from subspace.projection import Projection

Array = npt.NDArray[np.floating]
_WIDTH = 128


def solve_matching(
    *,
    queries: Array,
    documents: Array,
    pairs: npt.NDArray[np.integer],
    width: int | None = None,
    shrinkage: float = 0.5,
    name: str = "match",
) -> Projection:
    """Learns a projection with one block from pairs.

    Args:
        queries: Embeddings (Q, D).
        documents: Embeddings (N, D).
        pairs: Rows of queries and of relevant documents (P, 2).
        width: Dimensions of the block, no more than D; all D, up to 128, if None.
        shrinkage: Share of the identity in S_w, above 0 and up to 1.
        name: Of the block.

    Raises:
        ConfigError: There are no pairs, or width or shrinkage are out of range.
        LayoutError: The embeddings have different dimensions.
    """
    if queries.shape[1:] != documents.shape[1:]:
        raise LayoutError(f"queries are {queries.shape}, documents {documents.shape}")
    dim = queries.shape[1]
    if width is None:
        width = min(dim, _WIDTH)
    if not len(pairs):
        raise ConfigError("no query has a relevant document to learn from")
    if not 1 <= width <= dim:
        raise ConfigError(f"the width must be between 1 and {dim}, got {width}")
    if not 0 < shrinkage <= 1:
        raise ConfigError(f"the shrinkage must be above 0 and up to 1, got {shrinkage}")
    # Queries and documents are different kinds of text: what tells them apart is not their match.
    centres = queries.mean(axis=0), documents.mean(axis=0)
    q, d = queries - centres[0], documents - centres[1]
    differences = (q[pairs[:, 0]] - d[pairs[:, 1]]).astype(np.float64)
    within = differences.T @ differences / (2 * len(pairs))
    everything = np.concatenate([q, d]).astype(np.float64)
    total = everything.T @ everything / len(everything)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / dim * np.eye(dim)
    _, directions = eigh(total, shrunk, subset_by_index=(dim - width, dim - 1))
    return Projection(
        weight=np.ascontiguousarray(directions[:, ::-1].T, dtype=np.float32),
        mean=((centres[0] + centres[1]) / 2).astype(np.float32),
        layout=BlockLayout(names=(name,), widths=(width,)),
    )
