"""Uses as lines of JSON: written from a usage log, and added to another or to the same."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from subspace.errors import UsageLogError
from subspace.files import Line, Problems, read_lines, sha256_bytes, whole_file
from subspace.retrieval.usage.log_file import LogFile
from subspace.retrieval.usage.use_rows import add_use, count_same, is_same, read_entries
from subspace.retrieval.usage.uses import Clock, Use, check_namespace, check_use, is_id

_KEYS = ("id", "item", "time", "success", "query", "namespace", "clock")


@dataclass(frozen=True)
class LogIdentity:
    """What lines say of the log that they come from.

    Attributes:
        id: The log's own id.
        clock: Its unit of time.
    """

    id: str
    clock: Clock


def write_uses(file: LogFile, path: Path, *, log: LogIdentity, namespace: str | None) -> int:
    """Writes the uses of one namespace, or of all, to a JSONL file; returns their number.

    Raises:
        UsageLogError: The file cannot be written, or is the log itself.
    """
    if path.exists() and path.samefile(file.path):
        raise UsageLogError(f"{path} is the usage log itself; choose another file")
    count = 0
    try:
        with whole_file(path) as stream:
            for entry in read_entries(file, 0, namespace=namespace, whole=True):
                own = entry.origin or f"{log.id}:{entry.position}"
                line = {"id": own, **asdict(entry.use), "clock": log.clock}
                stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                count += 1
    except OSError as error:
        raise UsageLogError(f"cannot write {path}: {error}") from error
    return count


def add_lines(
    file: LogFile,
    path: Path,
    *,
    log: LogIdentity,
    namespace: str,
    now: Callable[[str], float],
    latest: Callable[[str], float],
) -> int:
    """Adds the uses of a JSONL file that a log does not have, and returns how many counted.

    Args:
        file: The log.
        path: The file.
        log: The log's id and clock.
        namespace: Namespace of lines that name none.
        now: Returns the current time in a namespace, that of lines without a time.
        latest: Returns the largest time that a line may have in a namespace.

    Raises:
        RecordError: Lines are wrong; none of the file is added.
        UsageLogError: The log cannot be written.
    """
    problems = Problems()
    uses: list[tuple[Use, str | None, bool]] = []
    for line in read_lines(path, problems=problems):
        try:
            use = _read_line(line, clock=log.clock, namespace=namespace, now=now)
            check_use(use, latest=latest(use.namespace))
            uses.append((use, line.value.get("id"), "time" in line.value))
        except UsageLogError as error:
            problems.add(line.where, str(error))
    problems.raise_if_any()
    added, seen = 0, Counter[Use]()
    with file.transaction():
        for use, identity, timed in uses:
            if identity is not None:
                known = _knows(file, use, identity, log=log)
            elif timed:
                seen[use] += 1
                identity = _content_id(use, count=seen[use])
                known = count_same(file, use) >= seen[use]
            else:
                known = False
            added += add_use(file, use, origin=identity, known=known)
    return added


def _read_line(line: Line, *, clock: Clock, namespace: str, now: Callable[[str], float]) -> Use:
    value = line.value
    _check_line(value, clock=clock)
    own = check_namespace(value.get("namespace", namespace))
    return Use(
        item=value.get("item", ""),
        time=_read_time(value["time"], clock=clock) if "time" in value else now(own),
        success=value.get("success"),
        query=value.get("query"),
        namespace=own,
    )


def _read_time(time: Any, *, clock: Clock) -> Any:
    """Reads an ISO 8601 text with a time zone as seconds since 1970; leaves other values alone.

    Raises:
        UsageLogError: The text is no such time, or the log counts steps.
    """
    if not isinstance(time, str):
        return time
    if clock == "steps":
        raise UsageLogError(f"the usage log counts steps: its time is a number, not {time!r:.60}")
    try:
        found = datetime.fromisoformat(time)
    except ValueError as error:
        raise UsageLogError(
            "the time of a use must be a finite number of seconds since 1970, or a text such as "
            f"2026-11-29T10:00:00+01:00, got {time!r:.60}"
        ) from error
    if found.tzinfo is None:
        raise UsageLogError(
            f"the time {time!r:.60} has no time zone: end it with Z (UTC), or with +01:00"
        )
    return found.timestamp()


def _check_line(line: Mapping[str, Any], *, clock: Clock) -> None:
    unknown = set(line) - set(_KEYS)
    if unknown:
        raise UsageLogError(f"a use has no {', '.join(map(repr, sorted(unknown)))}")
    if line.get("id") is not None and not is_id(line["id"]):
        raise UsageLogError(f"the id of a use must be a text, got {line['id']!r:.60}")
    if line.get("clock", clock) != clock:
        raise UsageLogError(f"its time counts {line['clock']!r:.60}, the log {clock}")


def _knows(file: LogFile, use: Use, identity: str, *, log: LogIdentity) -> bool:
    """Tells whether the log has the use of an identity."""
    if file.row("SELECT 1 FROM uses WHERE origin = ?", (identity,)) is not None:
        return True
    own, _, number = identity.rpartition(":")
    if own != log.id or not number.isdecimal():
        return False
    # A copy of the log may have gone on with the same numbers for other uses.
    return is_same(file, use, number=number)


def _content_id(use: Use, *, count: int) -> str:
    """Returns an identity for a use without one: the `count`-th of its content."""
    success = None if use.success is None else float(use.success)
    content: list[object] = [use.item, float(use.time), success, use.query, count]
    if use.namespace:  # those of earlier formats had none
        content.append(use.namespace)
    return "content:" + sha256_bytes(json.dumps(content).encode())
