"""DocumentSample: some of the documents that are searched, and what is measured on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from subspace.blocks import Blocks
from subspace.errors import LayoutError
from subspace.model.length import LengthTrend
from subspace.model.score_spread import ScoreSpread, measure_score_spread


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class DocumentSample:
    """Some documents from all over those that are searched; 2,000 say as much as all.

    Attributes:
        texts: Their texts.
        blocks: Their vectors as they are searched, centred alike.

    Raises:
        LayoutError: There is not one vector per text.
    """

    texts: Sequence[str]
    blocks: Blocks

    def __post_init__(self) -> None:
        """Checks that there is one vector per text."""
        if len(self.texts) != len(self.blocks.array):
            raise LayoutError(f"{len(self.texts)} texts, {len(self.blocks.array)} vectors")

    @cached_property
    def score_spread(self) -> ScoreSpread:
        """Standard deviations of the blocks' cosines between the documents."""
        return measure_score_spread(self.blocks.array, layout=self.blocks.layout)

    @cached_property
    def length_trend(self) -> LengthTrend:
        """How each block follows the documents' length."""
        layout = self.blocks.layout
        places = [layout.slice(name) for name in layout]
        return LengthTrend.measure(self.blocks.array, self.texts, blocks=places)
