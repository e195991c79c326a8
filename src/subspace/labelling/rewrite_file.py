"""Rewrites the texts of a JSONL file by rules, and labels each rewrite with its change."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from tqdm import tqdm

from subspace.data.records import Record, read_records
from subspace.errors import ConfigError
from subspace.files import write_lines
from subspace.fitting.weak import AS_WRITTEN, RULES, rewrite_record
from subspace.labelling.lost_labels import refuse_lost_labels
from subspace.outputs import refuse_same_file

_LEVELS = (-1.0, 0.0, 1.0)
_ADVICE = "give another --output, or move this file away"


def rewrite_file(
    source: Path | str,
    output: Path | str,
    *,
    factors: Sequence[str] | None = None,
    per_factor: int | None = None,
    progress: bool = False,
) -> tuple[int, int]:
    """Writes every text and its rewrites as labelled JSONL; see `rewrite_record`.

    A rewrite whose id another text has gets a number behind it.

    Args:
        source: Labelled records, as `subspace.read_records` reads them.
        output: File to write, gzipped if its name ends in `.gz`.
        factors: The factors to change; None for all that have rules.
        per_factor: Number of rules to draw for each factor and text; None for all.
        progress: Whether to show a progress bar.

    Returns:
        The number of texts, and the number of rewrites.

    Raises:
        ConfigError: No rule changes one of the factors, `per_factor` is below 1, or the output
            cannot be written.
        RecordError: With every wrong line of the source.
    """
    known = tuple(dict.fromkeys(rule.factor for rule in RULES))
    unknown = [factor for factor in factors or () if factor not in known]
    if unknown:
        raise ConfigError(
            f"--factors: no rule changes {', '.join(unknown)}; there are rules for "
            f"{', '.join(known)}"
        )
    if per_factor is not None and per_factor < 1:
        raise ConfigError(f"--rules must be 1 or more, got {per_factor}")
    refuse_same_file(("--input", source), ("--output", output))
    records = read_records(source)
    refuse_lost_labels(Path(output), kept=records, advice=_ADVICE, ignore=_is_of_rules)
    taken: set[str] = set()
    for record in records:
        if record.id in taken:
            raise ConfigError(f"--input: id '{record.id}' is in two sources: give one of them")
        taken.add(record.id)
    groups = {record.group for record in records if record.group}
    written: list[Record] = []
    for record in tqdm(records, desc="rewriting", unit="text", disable=not progress or None):
        group = record.group or _free(record.id, taken=groups)
        original, *others = rewrite_record(
            replace(record, group=group), factors=factors or known, per_factor=per_factor
        )
        written.append(original)
        written.extend(replace(one, id=_free(one.id, taken=taken)) for one in others)
    write_lines(Path(output), map(_line, written))
    return len(records), len(written) - len(records)


def _free(name: str, *, taken: set[str]) -> str:
    """Returns a name that no other text has: with a number behind it, if it is taken; takes it."""
    numbered = (f"{name}~{number}" for number in count(2))
    free = next(one for one in chain([name], numbered) if one not in taken)
    taken.add(free)
    return free


def _is_of_rules(factor: str, label: str | float) -> bool:
    """Tells whether a label without an origin is one that rewrites get."""
    named = {AS_WRITTEN, *(rule.name for rule in RULES if rule.factor == factor)}
    return label in (named if factor == "style" else _LEVELS)


def _line(record: Record) -> dict[str, Any]:
    names = ("id", "text", "factors", "group", "split")
    return {name: getattr(record, name) for name in names}
