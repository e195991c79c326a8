"""Cross-corpus projections: each is solved without the source that it will be measured on."""

from collections.abc import Iterable, Sequence

from tqdm import tqdm

from subspace.fitting.block_spec import BlockSpecs
from subspace.fitting.closed_form import solvable, solve_closed_form
from subspace.fitting.fitting_data import FittingData
from subspace.model.projection import Projection


def leave_one_out(
    data: FittingData,
    *,
    blocks: BlockSpecs,
    layers: Sequence[int],
    kin: Sequence[Iterable[str]] = (),
    progress: bool = False,
) -> dict[str, Projection]:
    """Solves, for every source, the closed-form projection of all other sources.

    A block is left out of a projection if no other source labels its factor. A source has no
    projection if there is no other source or no block to solve.

    Args:
        data: The sources, with their moments.
        blocks: The blocks to solve.
        layers: Numbers of the encoder's layers that an embedding holds side by side.
        kin: Groups of similar sources that are left out together.
        progress: Whether to show a progress bar.

    Returns:
        The projections, by the source that was left out.
    """
    projections = {}
    for fold in tqdm(
        folds(data.sources, kin),
        desc="leaving one out",
        unit="fold",
        disable=not progress or None,
        leave=False,
    ):
        others = data.without(*fold).moments
        kept = solvable(others, blocks=blocks)
        if others and kept:
            projection = solve_closed_form(others, blocks=kept, layers=layers)
            projections.update(dict.fromkeys(fold, projection))
    return projections


def folds(sources: Iterable[str], kin: Sequence[Iterable[str]]) -> list[list[str]]:
    """Returns the sources that are left out together: kin, and every other source alone."""
    names = list(sources)
    groups = [[name for name in group if name in names] for group in kin]
    taken = {name for group in groups for name in group}
    return [group for group in groups if group] + [[n] for n in names if n not in taken]
