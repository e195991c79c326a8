"""Rewrites the texts of a JSONL file by rules, and labels each rewrite with its change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from subspace.data.records import Record, read_records
from subspace.errors import ConfigError
from subspace.files import write_lines
from subspace.fitting.weak import RULES, rewrite_record


def rewrite_file(
    source: Path | str,
    output: Path | str,
    *,
    factors: Sequence[str] | None = None,
    per_factor: int | None = None,
    progress: bool = False,
) -> tuple[int, int]:
    """Writes every text and its rewrites as labelled JSONL; see `rewrite_record`.

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
    records = read_records(source)
    written = [
        rewritten
        for record in tqdm(records, desc="rewriting", unit="text", disable=not progress)
        for rewritten in rewrite_record(record, factors=factors or known, per_factor=per_factor)
    ]
    write_lines(Path(output), map(_line, written))
    return len(records), len(written) - len(records)


def _line(record: Record) -> dict[str, Any]:
    names = ("id", "text", "factors", "group", "split")
    return {name: getattr(record, name) for name in names}
