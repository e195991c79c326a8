"""FeatureAnnotator: labels English texts by features that are counted in them.

Complexity and specificity are the scores of `fitting.weak.feature_scores`, which names the features
and their sources. Style is a register: `informal`, `neutral` or `formal`, by the score of
formality. docs/labels.md compares the labels with human ones.
"""

from collections.abc import Iterator, Sequence

from tqdm import tqdm

from subspace.data.records import Record
from subspace.fitting.weak.feature_scores import REFERENCE, score_text
from subspace.labelling.annotator import Factors

# Must be raised when a text gets other labels than before.
VERSION = 1
REGISTERS = ("informal", "neutral", "formal")
# These scores of formality cut the reference texts into thirds (benchmarks/labels.py --reference).
_REGISTER_EDGES = (-0.15, 0.25)


def register_of(formality: float) -> str:
    """Returns the register of a text by its score of formality."""
    return REGISTERS[sum(formality > edge for edge in _REGISTER_EDGES)]


class FeatureAnnotator:
    """Labels the complexity, specificity and style of English texts by counted features."""

    origin = "features"
    identity = f"version {VERSION}"
    factors = tuple(REFERENCE)
    cache = None

    def annotate(self, records: Sequence[Record], *, progress: bool = False) -> Iterator[Factors]:
        """Yields the labels of each text, in order.

        Args:
            records: The texts to label.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: The word frequencies are not installed.
        """
        for record in tqdm(records, desc="counting", unit="text", disable=not progress or None):
            scores = score_text(record.text)
            yield {
                factor: register_of(score) if factor == "style" else round(score, 3)
                for factor, score in scores.items()
            }
