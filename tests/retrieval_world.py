"""Twelve texts, and a model of five blocks over a real encoder, to index and to search."""

from pathlib import Path

import numpy as np

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.encoder import Encoder, EncoderSpec
from subspace.model import LinearHead, Model, Projection
from subspace.retrieval import Results

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "minilm"
TEXTS = {
    "bread": "knead the dough for ten minutes, let it rise, then bake the loaf",
    "soup": "simmer the carrots and onions in broth until they are soft",
    "cake": "OMG this cake is sooo good!!! you HAVE to bake it, like, now",
    "football": "the striker scored twice and the home team won the match",
    "tennis": "she lost the first set but won the final in straight games",
    "race": "WOW what a race!!! he ran SO fast, totally insane finish",
    "piano": "the sonata is in three movements and ends quietly",
    "drums": "the drummer keeps a steady beat under the guitar solo",
    "concert": "best. concert. EVER!!! the band was sooo loud omg",
    "tax": "pursuant to section 4, the taxpayer shall file a return by 30 April",
    "court": "the court held that the appellant's claim was without merit",
    "loan": "the bank raised its interest rates by a quarter of a percent",
}
QUERY = "how do I bake a loaf of bread"
OTHER = "the band played an amazing gig last night"
RECORDS = tuple(
    Record(id=name, text=text, metadata={"loud": "!!!" in text}) for name, text in TEXTS.items()
)
LAYOUT = BlockLayout.from_widths(
    {"topic": 12, "style": 8, "complexity": 4, "specificity": 4, "residual": 12}
)
NUMBERS = ("complexity", "specificity")


def make_model(encoder: Path | str, *, layers: tuple[int, ...] = (1, 2), seed: int = 0) -> Model:
    """Random blocks, with heads of numbers in two of them and of classes in another.

    Args:
        encoder: Where its files are: `tiny_qwen`, or `minilm`.
        layers: Hidden layers that are read.
        seed: Of all that is random.
    """
    opened = Encoder(EncoderSpec(model=str(encoder), layers=layers, pooling="mean"))
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(LAYOUT.dim, opened.dim)).astype(np.float32)
    heads = {
        name: LinearHead(
            weight=rng.normal(size=(1, LAYOUT.to_widths()[name])).astype(np.float32),
            bias=np.ones(1, np.float32),
            classes=None,
        )
        for name in NUMBERS
    }
    heads["style"] = LinearHead(
        weight=rng.normal(size=(2, LAYOUT.to_widths()["style"])).astype(np.float32),
        bias=np.zeros(2, np.float32),
        classes=("calm", "loud"),
    )
    mean = opened.encode(list(TEXTS.values())).mean(axis=0)
    return Model(
        projection=Projection(weight=weight, mean=mean, layout=LAYOUT),
        encoder=EncoderSpec.from_fingerprint(opened.fingerprint, model=str(encoder)),
        fingerprint=opened.fingerprint,
        heads=heads,
    )


def ids(results: Results) -> list[str]:
    return [hit.id for hit in results]
