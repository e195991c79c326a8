"""Which of two texts has more of a factor: pairs to ask about, and what the answers teach."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from subspace.arrays import Vectors
from subspace.blocks import unit
from subspace.data.comparisons import Comparison
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.labelling.person.questions import ask_pairs
from subspace.labelling.pick import pick
from subspace.labelling.pick_texts import MIN_WORDS
from subspace.model import Model
from subspace.model.adapt_labels import MIN_LABELS
from subspace.retrieval import Index

# Texts that are compared with each other, and pairs of them.
_TEXTS, _PAIRS = 40, 200
_TOPIC = "topic"


@dataclass(frozen=True, eq=False)
class Turned:
    """What comparisons teach of one factor.

    Attributes:
        direction: Its direction (layout.dim,) as they turn it; None if they do not tell yet.
        told: How many there are, and how far they are trusted.
    """

    direction: Vectors | None
    told: str


def compared_factors(model: Model) -> list[str]:
    """Returns the factors of which one text can have more than another: those of numbers."""
    return [factor for factor, head in model.heads.items() if head.classes is None]


def choose_pairs(index: Index, factor: str) -> list[tuple[Record, Record]]:
    """Chooses pairs of texts, spread over the factor and the topics; the same at every call.

    Texts that say almost the same are not compared, nor are texts of fewer than three words.
    """
    sample, layout = index.blocks.sample, index.layout
    places = [n for n, one in enumerate(sample.documents) if len(one.text.split()) >= MIN_WORDS]
    if len(places) < 2:
        return []
    vectors = sample.vectors[places]
    whole = unit(vectors)
    chosen = pick(
        (vectors @ index.model.direction(factor)).astype(float),
        layout.split(vectors)[_TOPIC] if _TOPIC in layout else whole,
        whole,
        count=min(_TEXTS, len(places)),
        groups=[None] * len(places),
    )
    records = [sample.documents[places[place]] for place in chosen.tolist()]
    questions = ask_pairs(records, factors=[factor], seed=0)
    return [(one.records[0], one.records[1]) for one in islice(questions, _PAIRS)]


def learn(index: Index, factor: str, comparisons: Sequence[Comparison]) -> Turned:
    """Turns a factor's direction toward comparisons of the factor, in memory alone."""
    count = len(comparisons)
    if count < MIN_LABELS:
        answers = "1 answer" if count == 1 else f"{count} answers"
        return Turned(None, f"{factor}: {answers}; from {MIN_LABELS} on they count")
    try:
        adapted = index.view().adapt(comparisons=comparisons)
    except ConfigError:  # a text was removed meanwhile
        return Turned(None, f"{factor}: answers on texts that are not in the index any more")
    trust = adapted.adapted["factors"][factor]["trust"]
    if not trust:
        return Turned(None, f"{factor}: {count} answers, which follow no pattern so far")
    return Turned(adapted.direction(factor), f"{factor}: {count} answers, trusted {trust:.0%}")
