"""Samples: the training, validation and test texts for studying one factor of one source."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from subspace.data.labels import Labels, label_source
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.evaluation.rank_agreement import independent_groups
from subspace.evaluation.tasks import ProbeTask, make_tasks, why_not

# Fewest groups of training texts: they are halved, and each half is cut into five folds.
_MIN_GROUPS = 20


@dataclass(frozen=True, eq=False)
class Sample:
    """The texts for studying one factor of one source.

    Attributes:
        records: The texts.
        task: The probe task; its positions are positions in `records`.
    """

    records: tuple[Record, ...]
    task: ProbeTask


def draw_samples(
    records: Mapping[str, Sequence[Record]], *, factors: Collection[str] = ()
) -> tuple[list[Sample], list[str]]:
    """Draws the texts to study, ordered by factor.

    Args:
        records: Labelled texts by source.
        factors: The factors to study; all if empty.

    Returns:
        The samples, and the factors of sources that cannot be studied, with the reason.

    Raises:
        ConfigError: No text is labelled with one of `factors`, or one of `factors` cannot be
            studied in any source, or no factor can be.
    """
    labels = {name: label_source(name, source) for name, source in records.items()}
    known = list(dict.fromkeys(factor for source in labels.values() for factor in source.columns))
    unknown = [factor for factor in factors if factor not in known]
    if unknown:
        raise ConfigError(
            f"no text is labelled with {', '.join(unknown)}; there are {', '.join(known)}"
        )
    samples: list[Sample] = []
    left_out: list[str] = []
    for factor in factors or known:
        drawn, reasons = _draw(factor, labels=labels, records=records)
        if factors and not drawn:
            raise ConfigError("\n".join([f"{factor} cannot be studied:", *reasons]))
        samples += drawn
        left_out += reasons
    if not samples:
        raise ConfigError("\n".join(["no factor can be studied:", *left_out]))
    return samples, left_out


def _draw(
    factor: str, *, labels: Mapping[str, Labels], records: Mapping[str, Sequence[Record]]
) -> tuple[list[Sample], list[str]]:
    samples, reasons = [], []
    for name, source in labels.items():
        if factor not in source.columns:
            continue
        tasks = make_tasks(source, factor=factor, seeds=1)
        if not tasks:
            reason = why_not(source.columns[factor], labels=source)
            reasons.append(f"{factor} of {name}: {reason}")
            continue
        reason = _too_few(tasks[0])
        if reason:
            reasons.append(f"{factor} of {name}: {reason}")
        else:
            samples.append(_cut(tasks[0], records[name]))
    return samples, reasons


def _too_few(task: ProbeTask) -> str:
    """Returns the reason why there are too few training texts to rank dimensions; empty if not."""
    groups = len(np.unique(independent_groups(task.groups[task.train])))
    if groups < _MIN_GROUPS:
        return (
            f"its training texts are of {groups} groups; {_MIN_GROUPS} are needed to see whether "
            "other texts rank the dimensions alike"
        )
    if (np.bincount(task.column.codes[task.train]) > 1).sum() < 2:
        return "fewer than two classes have more than one training text"
    return ""


def _cut(task: ProbeTask, records: Sequence[Record]) -> Sample:
    """Cuts a source to the texts of the task, so that no others need to be encoded."""
    kept = np.unique(np.concatenate([task.train, task.validation, task.test]))
    return Sample(
        records=tuple(records[position] for position in kept),
        task=replace(
            task,
            column=task.column.take(kept),
            draws=np.searchsorted(kept, task.draws),
            validation=np.searchsorted(kept, task.validation),
            test=np.searchsorted(kept, task.test),
            groups=task.groups[kept],
        ),
    )
