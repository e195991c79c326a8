"""Batches of queries and documents, drawn by a pure function of (seed, step)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, zip_longest
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from subspace.arrays import Ints, Vectors
from subspace.blocks import unit

# Queries per step while hard negatives are looked for.
_CHUNK = 256
# Hard negatives that are remembered of each query.
_HARD = 8


class PairBatch(NamedTuple):
    """Queries, their relevant documents, and documents that are not relevant to them.

    Attributes:
        queries: Raw embeddings (Q, D).
        documents: Raw embeddings (N, D); every one not judged relevant is a negative.
        relevant: Which document is relevant to which query (Q, N), truth values.
    """

    queries: Tensor
    documents: Tensor
    relevant: Tensor


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class PairPlan:
    """Which queries and documents of one set are in the batch of a step.

    A quarter of the places goes to queries, three quarters to documents, of every query in turn:
    one that is relevant, one hard negative (the nearest documents in the raw embedding that are
    not relevant), the next that is relevant, and so on.

    Attributes:
        queries: Raw embeddings of the set's queries (Q, D).
        documents: Raw embeddings of its documents (N, D).
        pairs: Positions of queries and of their relevant documents (P, 2), one at least.
        size: Texts per batch, 4 or more; a smaller set gives what it has.
        seed: Together with the step, decides everything.
        raw: Dimensions that negatives are looked for in.
    """

    queries: Vectors
    documents: Vectors
    pairs: Ints
    size: int
    seed: int
    raw: slice

    def draw(self, step: int) -> PairBatch:
        """The batch of a step."""
        rng = np.random.default_rng((self.seed, step))
        asked = rng.permutation(len(self._asked))[: max(1, self.size // 4)]
        room = self.size - len(asked)
        wanted = [
            _in_turn(rng.permutation(self._relevant[q]).tolist(), self._negatives[q].tolist())
            for q in asked
        ]
        # In the order in which they come; the first of equal ones stays.
        documents = np.array(list(dict.fromkeys(_in_turn(*wanted))))[:room]
        relevant = np.stack([np.isin(documents, self._relevant[q]) for q in asked])
        return PairBatch(
            queries=torch.from_numpy(
                np.asarray(self.queries[self._asked[asked]], dtype=np.float32)
            ),
            documents=torch.from_numpy(np.asarray(self.documents[documents], dtype=np.float32)),
            relevant=torch.from_numpy(relevant),
        )

    @cached_property
    def _asked(self) -> Ints:
        """Queries that have a relevant document."""
        return np.unique(self.pairs[:, 0])

    @cached_property
    def _relevant(self) -> Sequence[Ints]:
        """Relevant documents of each of those."""
        order = np.argsort(self.pairs[:, 0], kind="stable")
        _, starts = np.unique(self.pairs[order, 0], return_index=True)
        return np.split(self.pairs[order, 1], starts[1:])

    @cached_property
    def _negatives(self) -> Sequence[Ints]:
        """Hard negatives of each of those, the nearest first."""
        documents = unit(self.documents[:, self.raw])
        found: list[Ints] = []
        for start in range(0, len(self._asked), _CHUNK):
            queries = unit(self.queries[self._asked[start : start + _CHUNK], self.raw])
            scores = queries @ documents.T
            for row, relevant in zip(scores, self._relevant[start:], strict=False):
                row[relevant] = -np.inf
                nearest = np.argsort(-row, kind="stable")[:_HARD]
                found.append(nearest[np.isfinite(row[nearest])])
        return found


def _in_turn(*lists: list[int]) -> list[int]:
    """The first of each list, then the second of each that has one, and so on."""
    return [n for n in chain.from_iterable(zip_longest(*lists)) if n is not None]
