"""Which of two texts has more of a factor: pairs to ask about, and what the answers teach."""

from collections import Counter
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, eq=False)
class Turned:
    """What comparisons teach.

    Attributes:
        directions: By factor, its direction (layout.dim,) as the comparisons turn it; a factor
            that they do not turn yet is left out.
        told: How many there are of each factor, and how far they are trusted.
    """

    directions: Mapping[str, Vectors]
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
    topics = unit(layout.split(vectors)[layout.names[0]])
    chosen = pick(
        (vectors @ index.model.direction(factor)).astype(float),
        topics,
        topics,
        count=min(_TEXTS, len(places)),
        groups=[None] * len(places),
    )
    records = [sample.documents[places[place]] for place in chosen.tolist()]
    questions = ask_pairs(records, factors=[factor], seed=0)
    return [(one.records[0], one.records[1]) for one in islice(questions, _PAIRS)]


def learn(index: Index, comparisons: Sequence[Comparison]) -> Turned:
    """Turns directions toward comparisons, in memory alone."""
    directions, told = {}, []
    for factor, count in Counter(one.factor for one in comparisons).items():
        if count < MIN_LABELS:
            told.append(f"{factor}: {count} of {MIN_LABELS} answers that it takes")
            continue
        own = [one for one in comparisons if one.factor == factor]
        try:
            adapted = index.view().adapt(comparisons=own)
        except ConfigError as error:
            told.append(str(error))
            continue
        trust = adapted.adapted["factors"][factor]["trust"]
        told.append(f"{factor}: {count} answers, trusted {trust:.0%}")
        if trust:
            directions[factor] = adapted.direction(factor)
    return Turned(directions, "; ".join(told))
