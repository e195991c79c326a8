"""WeakSupervision: settings for learning from counted features and rewrites of texts."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.fitting.weak.rewrites import rewrite_text


@dataclass(frozen=True)
class WeakSupervision:
    """What to learn from texts beyond their labels; nothing by default.

    Attributes:
        features: How much what can be counted in a text teaches the direction of complexity and
            specificity beside labels of people; 0 for nothing.
        rewrites: How many training texts of each source to rewrite by rule; 0 for none.
        rules: How many rules of each factor to draw for a text.
    """

    features: float = 0.0
    rewrites: int = 0
    rules: int = 5

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not 0 <= self.features < float("inf") or self.rewrites < 0 or self.rules < 1:
            raise ConfigError(
                f"weak.features (got {self.features}) and weak.rewrites (got {self.rewrites}) must "
                f"be 0 or more, weak.rules (got {self.rules}) 1 or more"
            )


def rewrite_sources(
    sources: Mapping[str, Sequence[Record]], *, settings: WeakSupervision
) -> dict[str, tuple[Record, ...]]:
    """Makes a second source for every source: training texts and their rewrites.

    A text and its rewrites for one factor form a group. They are labelled with `as written` or the
    name of the rule, so that they serve as parallel texts. A hash of the ids decides which texts
    are rewritten.

    Args:
        sources: Records by source. Only training texts are rewritten.
        settings: Number of texts to rewrite, and of rules for each.
    """
    made = {}
    for name, records in sources.items():
        train = [record for record in records if record.split == "train"]
        keys = {record.id: hashlib.sha256(record.id.encode()).digest() for record in train}
        drawn = sorted(train, key=lambda record: keys[record.id])[: settings.rewrites]
        texts = [text for record in drawn for text in _rewrites(record, settings=settings)]
        if texts:
            made[f"{name} (rewrites)"] = tuple(texts)
    return made


def _rewrites(record: Record, *, settings: WeakSupervision) -> list[Record]:
    """Returns a text and its rewrites as records, with one group for each factor."""
    found = rewrite_text(record.text, seed=record.id, per_factor=settings.rules)
    source = f"{record.source} (rewrites)"
    made = []
    for factor in dict.fromkeys(rewrite.rule.factor for rewrite in found):
        own = [rewrite for rewrite in found if rewrite.rule.factor == factor]
        labelled = [("as written", record.text), *((r.rule.name, r.text) for r in own)]
        made += [
            Record(
                id=f"{record.id}/{factor}/{number}",
                text=text,
                source=source,
                factors={factor: label},
                group=f"{record.id}/{factor}",
            )
            for number, (label, text) in enumerate(labelled)
        ]
    return made
