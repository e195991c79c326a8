"""A small retrieval set, and a model whose blocks differ in scale and weight."""

from dataclasses import replace

from models import model_of, with_queries

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.data.retrieval_sets import RetrievalSet
from subspace.encoder import Encoder
from subspace.model import Model

LAYOUT = BlockLayout.from_widths({"topic": 20, "style": 8, "complexity": 30})
WEIGHTS = {"topic": 0.7, "style": 0.3, "complexity": 0.0}
DEFAULT = {"topic": 1.0, "style": 0.0, "complexity": 0.0}
SPREADS = {"topic": 0.2, "style": 0.1, "complexity": 0.05}
SCALES = {"topic": 1.0, "style": 2.0, "complexity": 4.0}
# Two layers of 32 dimensions each; the second is the raw embedding.
RAW = slice(32, 64)
TEXTS = {
    "Cats": "A cat sleeps. It hunts mice at night. Owners feed it twice a day. It purrs.",
    "Trains": "A train leaves at noon. The driver checks the brakes. Tickets are sold on board.",
    "Bread": "Flour and water are mixed. The dough rises.\n\nIt is baked. Then it cools.",
    "": "...",
}


def make_set() -> RetrievalSet:
    documents = tuple(
        Record(id=f"d{n}", text=f"{title}. {text}" if title else text, title=title)
        for n, (title, text) in enumerate(TEXTS.items())
    )
    queries = {"q0": "What do cats hunt?", "q1": "When does the dough rise?", "q2": "brakes"}
    relevance = {"q0": {"d0": 1.0}, "q1": {"d2": 2.0, "d1": 0.0}, "q2": {"d1": 1.0}}
    return RetrievalSet(documents=documents, queries=queries, relevance=relevance)


def make_model(encoder: Encoder) -> Model:
    """Random blocks, with a random matrix of their own for queries."""
    made = with_queries(model_of(encoder, widths=LAYOUT.to_widths()))
    return replace(made, default_weights=DEFAULT, score_spreads=SPREADS)
