"""Labels by people in a file that is about to be written over."""

from collections.abc import Callable, Iterable
from pathlib import Path

from subspace.data.records import Record
from subspace.errors import ConfigError, RecordError
from subspace.labelling.label_texts import human_labels
from subspace.labelling.read_texts import read_texts
from subspace.outputs import is_stream


def refuse_lost_labels(
    output: Path,
    *,
    kept: Iterable[Record],
    advice: str,
    ignore: Callable[[str, str | float], bool] | None = None,
) -> None:
    """Raises if a file holds labels by people, those without an origin, that would be lost.

    Args:
        output: The file; nothing is said if there is none, or it is empty.
        kept: Records whose labels by people are there afterwards.
        advice: What to do, as the end of the message.
        ignore: Tells whether a label, by its factor, is none of a person's.

    Raises:
        ConfigError: There is such a label; or the file does not hold records, so that nobody can
            tell.
    """
    if not output.exists() or is_stream(output) or not output.stat().st_size:
        return
    known = {
        (record.id, factor, label)
        for record in kept
        for factor, label in human_labels(record).items()
    }
    try:
        there = read_texts(output)
    except RecordError as error:
        raise ConfigError(
            f"--output: {output} is there and is not what this command writes: move it away, or "
            f"give another name ({error.problems[0]})"
        ) from error
    for line, record in there:
        for factor, label in human_labels(record).items():
            if (record.id, factor, label) not in known and not (ignore and ignore(factor, label)):
                raise ConfigError(
                    f"{line.where} holds a label of '{factor}' from people, which would be lost: "
                    f"{advice}"
                )
