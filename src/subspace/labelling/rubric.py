"""Rubric: what a language model labels by, one entry per factor, in a YAML file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from subspace.errors import ConfigError

DEFAULT_RUBRIC = Path(__file__).with_name("rubric.yaml")


@dataclass(frozen=True)
class Level:
    """One label and what it stands for.

    Attributes:
        label: A category, or a number of the scale.
        meaning: When a text gets it.
        example: A text that does.
    """

    label: str | int
    meaning: str
    example: str


@dataclass(frozen=True)
class FactorRubric:
    """How one factor is judged.

    Attributes:
        description: What the factor is.
        levels: The categories; or the anchored numbers, in order.
        scale: Lowest and highest number; none for categories.
    """

    description: str
    levels: tuple[Level, ...]
    scale: tuple[int, int] | None = None

    @property
    def labels(self) -> tuple[str | int, ...]:
        """All labels that there are: categories, or whole numbers."""
        if self.scale is None:
            return tuple(level.label for level in self.levels)
        return tuple(range(self.scale[0], self.scale[1] + 1))

    def read(self, answer: object) -> str | float | None:
        """The label that an answer is; none, if it is no label of this factor."""
        if isinstance(answer, bool) or answer not in self.labels:
            return None
        return answer if isinstance(answer, str) else float(str(answer))


Rubric = Mapping[str, FactorRubric]


def read_rubric(
    path: Path | str = DEFAULT_RUBRIC, *, factors: Sequence[str] | None = None
) -> Rubric:
    """Reads a rubric.

    Args:
        path: A YAML file like `rubric.yaml` beside this module.
        factors: Those that are wanted, in order; all by default.

    Raises:
        ConfigError: The file cannot be read, with everything that is wrong in it; or it says
            nothing of a factor.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--rubric: cannot read {path}: {error}") from error
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"--rubric: {path} must hold factors by name, each with its levels")
    problems = [problem for name, entry in value.items() for problem in _problems(name, entry)]
    if problems:
        raise ConfigError("\n".join([f"--rubric: {path} is wrong:", *problems]))
    missing = [name for name in factors or () if name not in value]
    if missing:
        raise ConfigError(
            f"--rubric: {path} says nothing of {', '.join(missing)}; it has {', '.join(value)}. "
            "Add the factor to a copy of the file and give that"
        )
    return {name: _read_factor(value[name]) for name in factors or value}


def _read_factor(entry: Mapping[str, Any]) -> FactorRubric:
    scale = entry.get("scale")
    levels = [
        Level(label=label, meaning=level["meaning"].strip(), example=level["example"].strip())
        for label, level in entry["levels"].items()
    ]
    return FactorRubric(
        description=entry["description"].strip(),
        levels=tuple(levels if scale is None else sorted(levels, key=lambda level: level.label)),
        scale=None if scale is None else (scale[0], scale[1]),
    )


def _problems(name: object, entry: object) -> Iterator[str]:
    """What is wrong with one factor."""
    if not _is_text(name) or name == "id":
        yield f"{name!r}: a factor's name must be a text other than 'id'"
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
        yield f"{name}: levels must be two or more, by label"
        return
    for label, level in levels.items():
        if not (isinstance(level, dict) and set(level) == {"meaning", "example"}):
            yield f"{name}: level {label!r} must have a meaning and an example, nothing else"
        elif not all(map(_is_text, level.values())):
            yield f"{name}: meaning and example of level {label!r} must be texts"
    yield from _wrong_labels(name, list(levels), entry.get("scale"))


def _wrong_labels(name: object, labels: list[object], scale: object) -> Iterator[str]:
    if scale is None:
        for label in labels:
            if not _is_text(label):
                yield (
                    f"{name}: category {label!r} must be a text (in quotes, if YAML reads it as "
                    "something else); numbers need a scale"
                )
        return
    if not isinstance(scale, list) or len(scale) != 2 or not all(map(_is_whole, scale)):
        yield f"{name}: scale must be two whole numbers like [1, 5], got {scale!r}"
        return
    low, high = scale
    if not 0 < high - low <= 100:
        yield f"{name}: scale must rise, by 100 at most, got {scale!r}"
        return
    outside = [label for label in labels if not (_is_whole(label) and low <= label <= high)]
    if outside:
        yield f"{name}: levels {outside} are no whole numbers from {low} to {high}"
    elif not {low, high} <= set(labels):
        yield f"{name}: levels must anchor both ends of the scale, {low} and {high}"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
