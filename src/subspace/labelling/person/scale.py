"""Scale: how a person's reply becomes a label, a number or one of a factor's classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from subspace.errors import ConfigError

SKIP, UNDO, MORE, QUIT = "", "u", "m", "q"
_COMMANDS = (UNDO, MORE, QUIT)


class UnclearReply(Exception):  # noqa: N818  # nothing failed: the person is asked again
    """A reply is none of those that are asked for; the message says which are."""


@dataclass(frozen=True)
class Scale:
    """The labels that a factor can have.

    Attributes:
        classes: Names of its classes, which the digits 1, 2, ... choose too; empty for numbers.

    Raises:
        ConfigError: A class could not be told from a digit, a command or another class.
    """

    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the classes."""
        names = [name.casefold() for name in self.classes]
        for place, name in enumerate(names):
            if name in _COMMANDS or _to_number(name) is not None:
                raise ConfigError(
                    f"--classes: '{name}' cannot be a class, as it is an answer of its own; "
                    "give it a word for a name (numbers as labels need no classes)"
                )
            if name in names[:place]:
                raise ConfigError(f"--classes: '{name}' is there twice; name it once")
        if len(names) == 1:
            raise ConfigError(f"--classes: give two classes or more, got '{names[0]}' alone")

    @property
    def hint(self) -> str:
        """What can be answered."""
        if not self.classes:
            return "a number"
        return ", ".join(f"{place} {name}" for place, name in enumerate(self.classes, start=1))

    def read(self, reply: str) -> str | float:
        """Returns the label that a reply stands for.

        Raises:
            UnclearReply: It is no number, or neither a class nor the digit of one.
        """
        number = _to_number(reply)
        if not self.classes:
            if number is None:
                raise UnclearReply(
                    "answer by a number such as 2 or -0.5 (words need --classes formal,casual)"
                )
            return number
        if reply.isascii() and reply.isdecimal() and 1 <= int(reply) <= len(self.classes):
            return self.classes[int(reply) - 1]
        for name in self.classes:
            if name.casefold() == reply.casefold():
                return name
        raise UnclearReply(f"answer by a digit or its name: {self.hint}")


def make_scale(factor: str, *, declared: Sequence[str], seen: Sequence[str | float]) -> Scale:
    """Returns the scale of a factor: classes if any are declared or were given, or else numbers.

    Args:
        factor: The factor.
        declared: Classes that the person named.
        seen: Labels of the factor that are there already; their classes follow the declared ones.

    Raises:
        ConfigError: Some labels are numbers and others classes, or a class has an unusable name.
    """
    classes = [label for label in seen if isinstance(label, str)]
    numbers = [label for label in seen if not isinstance(label, str)]
    if numbers and (classes or declared):
        raise ConfigError(
            f"'{factor}' has numbers ({numbers[0]:g}) and classes ({[*declared, *classes][0]}); "
            "use one kind, or another name for the factor"
        )
    names = tuple(dict.fromkeys([*declared, *classes]))
    if len(names) == 1 and not declared:
        raise ConfigError(
            f"'{factor}' has the class '{names[0]}' alone so far; name all of its classes, such as "
            f"--classes {names[0]},OTHER"
        )
    return Scale(names)


def _to_number(text: str) -> float | None:
    if not text.isascii() or "_" in text:  # which Python reads as numbers, and people do not
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
