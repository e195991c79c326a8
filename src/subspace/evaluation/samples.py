"""Samples: the texts by which one factor of one source is studied, and no others."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from subspace.data.labels import Labels, label_source
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.evaluation.rank_agreement import independent_groups
from subspace.evaluation.tasks import ProbeTask, make_tasks, why_not

# Groups of training texts that can be halved, and each half cut in five.
_MIN_GROUPS = 20


@dataclass(frozen=True, eq=False)
class Sample:
    """The texts by which one factor of one source is studied.

    Attributes:
        records: The texts.
        task: What is read of them; its positions are those of `records`.
    """

    records: tuple[Record, ...]
    task: ProbeTask


def draw_samples(
    records: Mapping[str, Sequence[Record]], *, factors: Collection[str] = ()
) -> tuple[list[Sample], list[str]]:
    """Draws the texts to study, ordered by factor; and says what cannot be studied and why.

    Args:
        records: By source.
        factors: Which to look for; all if empty.

    Raises:
        ConfigError: No text is labelled with one of `factors`, or nothing can be studied.
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
    """What the training texts lack for more than a probe; empty if nothing."""
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
    """The task over its own texts alone, so that no others need be encoded."""
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
