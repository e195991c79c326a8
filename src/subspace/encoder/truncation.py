"""Truncation: how many texts were longer than an encoder reads, and how much was not read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Truncation:
    """How much of texts was beyond an encoder's maximum length.

    Attributes:
        texts: Number of texts that were cut.
        unread: Number of their characters that were not read.
        characters: Number of all their characters.
    """

    texts: int = 0
    unread: int = 0
    characters: int = 0

    def __bool__(self) -> bool:
        """Tells whether any text was cut."""
        return self.texts > 0

    def __add__(self, other: "Truncation") -> "Truncation":
        """Adds the counts of other texts."""
        return Truncation(
            self.texts + other.texts,
            self.unread + other.unread,
            self.characters + other.characters,
        )

    def __sub__(self, before: "Truncation") -> "Truncation":
        """Returns what was added since `before`."""
        return Truncation(
            self.texts - before.texts,
            self.unread - before.unread,
            self.characters - before.characters,
        )

    def say(self, *, max_length: int, of: int | None = None, what: str = "texts") -> str:
        """Returns a sentence for the user.

        Args:
            max_length: The encoder's maximum length in tokens.
            of: Number of all texts, if it is known.
            what: What the texts are, in the plural.
        """
        count = f"{self.texts}" if of is None else f"{self.texts} of {of}"
        share = f" ({self.unread / self.characters:.0%} of them)" if self.characters else ""
        return (
            f"{count} {what} are longer than the encoder's {max_length} tokens; what is beyond "
            f"was not read{share}"
        )
