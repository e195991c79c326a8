"""Cross-corpus: projections solved without the source that they will be measured on."""

from collections.abc import Mapping

from tqdm import tqdm

from subspace.blocks import BlockLayout
from subspace.fitting.closed_form import RESIDUAL, ClosedForm, solve_closed_form
from subspace.fitting.moments import SourceStatistics
from subspace.model.projection import Projection


def leave_one_out(
    statistics: Mapping[str, SourceStatistics],
    *,
    layout: BlockLayout,
    settings: ClosedForm,
    raw: slice,
    progress: bool = False,
) -> dict[str, Projection]:
    """For every source, the closed form of all others.

    A block whose factor no other source labels is left out of that projection; a source that
    leaves nothing to solve has none.

    Args:
        statistics: By source.
        layout: The blocks.
        settings: Of the closed form.
        raw: Which dimensions of an embedding are the raw embedding.
        progress: Shows a bar.
    """
    projections = {}
    for left_out in tqdm(
        statistics, desc="leaving one out", unit="source", disable=not progress, leave=False
    ):
        others = {name: part for name, part in statistics.items() if name != left_out}
        labelled = {factor for part in others.values() for factor in part.factors}
        widths = {
            block: width
            for block, width in layout.to_widths().items()
            if block in labelled or block == RESIDUAL
        }
        if not set(widths) - {RESIDUAL}:
            continue
        kept = BlockLayout.from_widths(widths)
        projections[left_out] = solve_closed_form(
            others, layout=kept, settings=settings.only(kept), raw=raw
        ).projection
    return projections
