"""Cross-corpus: projections solved without the source that they will be measured on."""

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
    """For every source, the closed form of all others.

    A block whose factor no other source labels is left out of that projection; a source that
    leaves nothing to solve has none.

    Args:
        moments: By source.
        blocks: What to solve.
        layers: The encoder's layers side by side, by their real numbers.
        progress: Shows a bar.
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
