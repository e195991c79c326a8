"""Labels from measures: what can be counted on a text, as one number or level per factor.

Each is a mean of few measures of `fitting.weak`, in standard deviations of the
training texts of nine labelled corpora (every corpus counting the same), signed so that more is
harder, more specific, or more formal:

- complexity: sentence length, share of long words, rarity of content words. Length of sentences
  and words is what readability formulas count (Björnsson 1968, LIX: the first two), rarity what
  they stand for.
- specificity: names and numbers against generic words (people, something, usually; Li and Nenkova
  2015).
- style: a register, `informal`, `neutral` or `formal`. Abstract nouns, `of` and `the` against
  contractions, casual words, `I` and `you`: nouns against deixis, as in the formality score of
  Heylighen and Dewaele (1999), with words in the place of its parts of speech.

docs/labels.md compares them with human labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tqdm import tqdm

from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError
from subspace.fitting.weak import measure_text
from subspace.labelling.annotator import Annotation

# Sign, mean and standard deviation of every measure in use (benchmarks/labels.py --reference).
REFERENCE: Mapping[str, Mapping[str, tuple[int, float, float]]] = {
    "complexity": {
        "sentence length": (+1, 2.77, 0.56),
        "long words": (+1, 0.199, 0.118),
        "content word frequency": (-1, 4.637, 0.472),
    },
    "specificity": {
        "names": (+1, 0.230, 0.188),
        "numbers": (+1, 0.054, 0.107),
        "generic words": (-1, 0.106, 0.119),
    },
    "style": {
        "noun endings": (+1, 0.079, 0.108),
        "of": (+1, 0.108, 0.114),
        "the": (+1, 0.194, 0.135),
        "apostrophes": (-1, 0.051, 0.096),
        "casual words": (-1, 0.052, 0.097),
        "first singular words": (-1, 0.061, 0.115),
        "second words": (-1, 0.054, 0.107),
    },
}
# To be raised when a text gets other labels than before.
VERSION = 1
FACTORS = tuple(REFERENCE)
REGISTERS = ("informal", "neutral", "formal")
# Thirds of the reference texts.
_REGISTER_EDGES = (-0.15, 0.25)


def score_text(text: str) -> dict[str, float]:
    """Complexity, specificity and formality (under `style`), in standard deviations.

    Raises:
        ConfigError: The word frequencies are not installed.
    """
    measured = measure_text(text)
    return {
        factor: sum(
            sign * (measured[factor][name] - mean) / deviation
            for name, (sign, mean, deviation) in parts.items()
        )
        / len(parts)
        for factor, parts in REFERENCE.items()
    }


def register_of(formality: float) -> str:
    """The level of a formality score."""
    return REGISTERS[sum(formality > edge for edge in _REGISTER_EDGES)]


@dataclass(frozen=True)
class MeasuresAnnotator:
    """Labels texts by what can be counted on them; English.

    Attributes:
        factors: What to label, some of `FACTORS`.

    Raises:
        ConfigError: There is no measure of a factor.
    """

    factors: tuple[str, ...] = FACTORS
    origin: str = "measures"
    identity: str = f"version {VERSION}"

    def __post_init__(self) -> None:
        """Checks the factors."""
        unknown = [factor for factor in self.factors if factor not in FACTORS]
        if unknown:
            raise ConfigError(
                f"no measures of {', '.join(unknown)}; there are some of {', '.join(FACTORS)}"
            )

    def annotate(
        self, documents: Sequence[Document], *, progress: bool = False
    ) -> Iterator[Annotation]:
        """Yields one annotation per document, in order.

        Args:
            documents: What to label.
            progress: Shows a bar.
        """
        for document in tqdm(documents, desc="measuring", unit="text", disable=not progress):
            scores = score_text(document.text)
            labels: dict[str, str | float] = {
                factor: register_of(scores[factor])
                if factor == "style"
                else round(scores[factor], 3)
                for factor in self.factors
            }
            yield Annotation(id=document.id, factors=labels)
