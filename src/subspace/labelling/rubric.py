"""Rubric: a YAML file that describes the labels of each factor to a language model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subspace.errors import ConfigError
from subspace.files import read_yaml

DEFAULT_RUBRIC = Path(__file__).with_name("rubric.yaml")


@dataclass(frozen=True)
class RubricLevel:
    """One label with its meaning.

    Attributes:
        label: A category, or a number of the scale.
        meaning: Says which texts get the label.
        example: A text that gets it.
    """

    label: str | int
    meaning: str
    example: str


@dataclass(frozen=True)
class FactorRubric:
    """Description of one factor and its labels.

    Attributes:
        description: Defines the factor.
        levels: The categories, or the described numbers in rising order.
        scale: Lowest and highest number; None for categories.
    """

    description: str
    levels: tuple[RubricLevel, ...]
    scale: tuple[int, int] | None = None

    @property
    def labels(self) -> tuple[str | int, ...]:
        """All labels: categories, or the whole numbers of the scale."""
        if self.scale is None:
            return tuple(level.label for level in self.levels)
        return tuple(range(self.scale[0], self.scale[1] + 1))

    def read(self, answer: object) -> str | float | None:
        """Returns an answer as a label; None if it is not a label of this factor."""
        if isinstance(answer, bool) or answer not in self.labels:
            return None
        return answer if isinstance(answer, str) else float(str(answer))


Rubric = Mapping[str, FactorRubric]


def read_rubric(
    path: Path | str = DEFAULT_RUBRIC, *, factors: Sequence[str] | None = None
) -> Rubric:
    """Reads a rubric.

    Args:
        path: A YAML file such as `rubric.yaml` beside this module.
        factors: The factors to read, in order; None for all.

    Raises:
        ConfigError: The file cannot be read, has mistakes (the message lists all), or lacks a
            factor.
    """
    try:
        value = read_yaml(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--rubric: cannot read {path}: {error}") from error
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"--rubric: {path} must hold factors by name, each with its levels")
    problems = [problem for name, entry in value.items() for problem in _problems(name, entry)]
    if problems:
        raise ConfigError("\n".join([f"--rubric: {path} is wrong:", *problems]))
    missing = [name for name in factors or () if name not in value]
    if missing:
        raise ConfigError(
            f"--rubric: {path} lacks {', '.join(missing)}; it describes {', '.join(value)}. Copy "
            "the file, add the factor, and give the copy"
        )
    return {name: _read_factor(value[name]) for name in factors or value}


def _read_factor(entry: Mapping[str, Any]) -> FactorRubric:
    scale = entry.get("scale")
    levels = [
        RubricLevel(label=label, meaning=level["meaning"].strip(), example=level["example"].strip())
        for label, level in entry["levels"].items()
    ]
    return FactorRubric(
        description=entry["description"].strip(),
        levels=tuple(levels if scale is None else sorted(levels, key=lambda level: level.label)),
        scale=None if scale is None else (scale[0], scale[1]),
    )


def _problems(name: object, entry: object) -> Iterator[str]:
    """Yields the mistakes of one factor."""
    if not _is_text(name) or name == "id":
        yield f"{name!r}: the name of a factor must be a text other than 'id'"
        return
    if not isinstance(entry, dict) or not {"description", "levels"} <= set(entry):
        yield f"{name}: must have a description and levels"
        return
    for key in sorted(set(map(str, entry)) - {"description", "levels", "scale"}):
        yield f"{name}: has an unknown key '{key}'"
    if not _is_text(entry["description"]):
        yield f"{name}: the description must be a text"
    levels = entry["levels"]
    if not isinstance(levels, dict) or len(levels) < 2:
        yield f"{name}: levels must hold two or more labels"
        return
    for label, level in levels.items():
        if not (isinstance(level, dict) and set(level) == {"meaning", "example"}):
            yield f"{name}: level {label!r} must have a meaning and an example and nothing else"
        elif not all(map(_is_text, level.values())):
            yield f"{name}: meaning and example of level {label!r} must be texts"
    yield from _wrong_labels(name, list(levels), entry.get("scale"))


def _wrong_labels(name: object, labels: list[object], scale: object) -> Iterator[str]:
    if scale is None:
        for label in labels:
            if not _is_text(label):
                yield (
                    f"{name}: category {label!r} must be a text (quote it if YAML reads it as "
                    "something else); numbers need a scale"
                )
        return
    if not isinstance(scale, list) or len(scale) != 2 or not all(map(_is_whole, scale)):
        yield f"{name}: scale must be two whole numbers like [1, 5], got {scale!r}"
        return
    low, high = scale
    if not 0 < high - low <= 100:
        yield f"{name}: the second number of scale must be 1 to 100 above the first, got {scale!r}"
        return
    outside = [label for label in labels if not (_is_whole(label) and low <= label <= high)]
    if outside:
        yield f"{name}: levels {outside} are not whole numbers from {low} to {high}"
    elif not {low, high} <= set(labels):
        yield f"{name}: levels must include both ends of the scale, {low} and {high}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
