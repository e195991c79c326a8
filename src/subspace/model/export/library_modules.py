"""A projection as modules of sentence-transformers, without any code of this package.

One block is `Pooling`, `Normalize`, `Dense` (W x - W mu - c), `Normalize`. Several blocks are
harder: each must have unit length, but `Normalize` scales a whole vector. It can also scale each
token, and `Pooling` puts a vector named `cls_token_embeddings` before its own result. So each block
is computed on a token that holds the pooled text, scaled there, and appended to the blocks before
it:

    token_states         the text's embedding x, as a token
    token_embeddings     Dense, Normalize: one block of it, of unit length
    sentence_embedding   Pooling: the earlier blocks, then this one
    cls_token_embeddings a copy of that, for the next block

Last-token pooling has such a token. Mean pooling gets one from `HierarchicalTokenPooling` with a
single cluster, which is the mean of all tokens. The other poolings have none.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.model.export.selection import Selection

# Pool factor of `HierarchicalTokenPooling`: more than any text has tokens, so one cluster is left.
_ONE_CLUSTER = 1e9
_ENDS_IN_A_TOKEN = ("mean", "lasttoken")
_QUERY, _DOCUMENT = "query", "document"

Array = npt.NDArray[Any]
Modules = list[Any]  # of sentence-transformers, which is imported only when used


def library_suffices(selection: Selection, *, pooling: str) -> bool:
    """Tells whether the library's modules can compute these blocks of a last layer exactly."""
    from torch import nn

    names = selection.projection.layout.names
    if selection.nearness:  # the softmax of classes
        return False
    taken = {_QUERY, _DOCUMENT, *dir(nn.ModuleDict())}  # a block is a task, and tasks are modules
    return len(names) == 1 or (
        pooling in _ENDS_IN_A_TOKEN
        and all(name not in taken and name.replace("-", "_").isidentifier() for name in names)
    )


def build_modules(selection: Selection, *, pooling: str) -> Modules:
    """Builds the modules that follow the transformer.

    One block without a separate matrix for queries is a plain chain. Anything else has a `Router`
    with the tasks `document` (the default) and `query`. With several blocks, each also has a task
    of its name, which gives that block of a document alone, and a task `NAME-query` for queries if
    they have a separate matrix.
    """
    from sentence_transformers.base.modules import Normalize, Router
    from sentence_transformers.sentence_transformer.modules import Pooling

    projection = selection.projection
    sides = {_DOCUMENT: (projection.weight, projection.offset)}
    if projection.query is not None:
        sides[_QUERY] = (projection.query.weight, projection.query.offset)
    if len(projection.layout) == 1:
        head: Modules = [Pooling(projection.input_dim, pooling), Normalize()]
        routes = {side: [_dense(*_affine(selection, *w)), Normalize()] for side, w in sides.items()}
        if len(routes) == 1:
            return [*head, *routes[_DOCUMENT]]
        return [*head, Router(routes, default_route=_DOCUMENT)]
    routes = {}
    for side, (weight, offset) in sides.items():
        blocks = _make_blocks(selection, weight=weight, offset=offset)
        routes[side] = _join(blocks, scales=selection.scales)
        suffix = "" if side == _DOCUMENT else f"-{side}"
        routes |= {f"{name}{suffix}": modules for name, modules in blocks.items()}
    routes.setdefault(_QUERY, routes[_DOCUMENT])
    routes = {_DOCUMENT: routes.pop(_DOCUMENT), **routes}  # the first gives the dimension
    return [*_tokens(pooling, tasks=routes), Router(routes, default_route=_DOCUMENT)]


def _tokens(pooling: str, *, tasks: Mapping[str, Any]) -> Modules:
    """Builds the modules that write `token_states`, whose last token holds x."""
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    modules: Modules = [Normalize("token_embeddings", "token_states")]
    if pooling == "mean":
        mean = HierarchicalTokenPooling(_ONE_CLUSTER, num_protected_tokens=0, tasks=list(tasks))
        modules.insert(0, mean)
    return modules


def _make_blocks(
    selection: Selection, *, weight: Array, offset: Array | None
) -> dict[str, Modules]:
    """Builds for each block the modules that compute it, as last token and as vector."""
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import Pooling

    layout = selection.projection.layout
    matrix, bias = _affine(selection, weight, offset)
    return {
        name: [
            _dense(
                matrix[layout.slice(name)],
                bias[layout.slice(name)],
                read="token_states",
                write="token_embeddings",
            ),
            Normalize("token_embeddings"),
            Pooling(width, "lasttoken"),
        ]
        for name, width in layout.to_widths().items()
    }


def _join(blocks: Mapping[str, Modules], *, scales: Array) -> Modules:
    """Builds the modules that concatenate all blocks, each multiplied by its scale."""
    from sentence_transformers.sentence_transformer.modules import Pooling

    chain: Modules = []
    width = 0
    for make, normalise, pool in blocks.values():
        if chain:
            copy = np.eye(width)
            chain.append(_dense(copy, read="sentence_embedding", write="cls_token_embeddings"))
            pool = Pooling(pool.embedding_dimension, ("cls", "lasttoken"))
        chain += [make, normalise, pool]
        width += pool.embedding_dimension
    return [*chain, _dense(np.diag(scales))]


def _affine(selection: Selection, weight: Array, offset: Array | None) -> tuple[Array, Array]:
    """Returns W and the bias -(W mu + c), computed in float64."""
    centre = weight.astype(np.float64) @ selection.projection.mean.astype(np.float64)
    return weight, -(centre if offset is None else centre + offset)


def _dense(
    matrix: Array,
    bias: Array | None = None,
    *,
    read: str = "sentence_embedding",
    write: str = "sentence_embedding",
) -> Any:
    import torch
    from sentence_transformers.base.modules import Dense

    rows, columns = matrix.shape
    return Dense(
        columns,
        rows,
        bias=bias is not None,
        activation_function=None,
        init_weight=torch.tensor(matrix, dtype=torch.float32),
        init_bias=None if bias is None else torch.tensor(bias, dtype=torch.float32),
        module_input_name=read,
        module_output_name=write,
    )
