"""Labels texts by several annotators, and compares the annotators."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotator, Factors
from subspace.labelling.annotator_agreement import AnnotatorAgreement, compare_annotators
from subspace.labelling.label_kinds import keep_one_kind, warn_of_constants

# Origin of labels by people, where agreements and counts name origins.
HUMAN = "human"
# Stands for labels of earlier runs, whose records name their origins.
_FORMER = "an earlier run"


@dataclass(frozen=True)
class LabelledTexts:
    """Labelled texts, and how well the annotators agree.

    Attributes:
        records: The texts in the order given. `origins` names the annotator of each label, and
            `factors` is empty where no annotator had one.
        factors: The factors that were to be labelled.
        agreements: Agreement of every two annotators, and of each with human labels if there are
            any.
    """

    records: tuple[Record, ...]
    factors: tuple[str, ...]
    agreements: tuple[AnnotatorAgreement, ...]

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Ids of the texts without any label."""
        return tuple(record.id for record in self.records if not record.factors)

    def count_origins(self) -> dict[str, Counter[str]]:
        """Counts the labels of each factor by origin; labels without an origin count as `human`."""
        return {
            factor: Counter(
                record.origins.get(factor, HUMAN)
                for record in self.records
                if factor in record.factors
            )
            for factor in self.factors
        }


def label_texts(
    records: Sequence[Record],
    annotators: Sequence[Annotator],
    *,
    factors: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> LabelledTexts:
    """Labels texts. If several annotators have a label, that of the first is taken.

    Labels without an origin are human labels. They stay, unless `overwrite` is set.

    Args:
        records: The texts to label; they may have labels already.
        annotators: The annotators, the most trusted one first.
        factors: The factors to label; None for all that the annotators label.
        overwrite: Whether to replace human labels too.
        progress: Whether to show progress bars.

    Raises:
        ConfigError: Two annotators have the same origin, or an annotator cannot work.
    """
    if factors is None:
        factors = tuple(dict.fromkeys(name for one in annotators for name in one.factors))
    check_origins(annotators)
    given = {one.origin: list(one.annotate(records, progress=progress)) for one in annotators}
    return merge_labels(records, given, factors=factors, overwrite=overwrite)


def check_origins(annotators: Sequence[Annotator]) -> None:
    """Raises unless every annotator has an origin of its own.

    Raises:
        ConfigError: Two annotators have the same origin.
    """
    for origin, count in Counter(one.origin for one in annotators).items():
        if count > 1:
            raise ConfigError(f"{count} annotators mark their labels with '{origin}'; rename one")


def merge_labels(
    records: Sequence[Record],
    given: Mapping[str, Sequence[Factors]],
    *,
    factors: Sequence[str],
    overwrite: bool = False,
) -> LabelledTexts:
    """Adds the labels of annotators to texts; see `label_texts`.

    A factor has labels of one kind, numbers or classes: that of the labels by people which stay, or
    else that of the first annotator. Others are left out, and a warning says so.

    Args:
        records: The texts.
        given: By origin, the labels of each text; the most trusted origin first.
        factors: The factors to label.
        overwrite: Whether to replace human labels too.
    """
    people = [human_labels(record) for record in records]
    compared = {HUMAN: people, **given} if any(people) else given
    warn_of_constants(given, factors=factors)
    staying = {HUMAN: people, **given} if not overwrite else {**given, HUMAN: people}
    former = [{name: record.factors[name] for name in record.origins} for record in records]
    kept = keep_one_kind({**staying, _FORMER: former}, factors=factors)
    labelled = []
    for place, record in enumerate(records):
        labels, origins = dict(record.factors), dict(record.origins)
        for factor in factors:
            found = [
                (name, own[place][factor]) for name, own in kept.items() if factor in own[place]
            ]
            if not found:
                labels.pop(factor, None)
                origins.pop(factor, None)
                continue
            name, labels[factor] = found[0]
            if name not in (HUMAN, _FORMER):
                origins[factor] = name
        labelled.append(replace(record, factors=labels, origins=origins))
    return LabelledTexts(
        records=tuple(labelled),
        factors=tuple(factors),
        agreements=tuple(compare_annotators(compared, factors=factors)),
    )


def human_labels(record: Record) -> Factors:
    """Returns the human labels, which are the labels without an origin."""
    return {name: label for name, label in record.factors.items() if name not in record.origins}
