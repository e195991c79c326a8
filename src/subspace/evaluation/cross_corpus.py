"""Cross-corpus projections: each is solved without the source that it will be measured on."""

from collections.abc import Mapping, Sequence

from tqdm import tqdm

from subspace.fitting.block_spec import BlockSpecs
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.moments import SourceMoments
from subspace.model.projection import Projection


def leave_one_out(
    moments: Mapping[str, SourceMoments],
    *,
    blocks: BlockSpecs,
    layers: Sequence[int],
    progress: bool = False,
) -> dict[str, Projection]:
    """Solves, for every source, the closed-form projection of all other sources.

    A block is left out of a projection if no other source labels its factor. A source has no
    projection if there is no other source or no block to solve.

    Args:
        moments: Moments of the training texts, by source.
        blocks: The blocks to solve.
        layers: Numbers of the encoder's layers that an embedding holds side by side.
        progress: Whether to show a progress bar.

    Returns:
        The projections, by the source that was left out.
    """
    projections = {}
    for left_out in tqdm(
        moments, desc="leaving one out", unit="source", disable=not progress, leave=False
    ):
        others = {name: part for name, part in moments.items() if name != left_out}
        labelled = {factor for part in others.values() for factor in part.factors}
        kept = {n: spec for n, spec in blocks.items() if n in labelled or not spec.signal_power}
        if others and kept:
            projections[left_out] = solve_closed_form(others, blocks=kept, layers=layers)
    return projections
