"""Unsaved: which documents were changed since the last save, and how."""

from collections.abc import Collection, Iterator, Sequence


class Unsaved:
    """Ids of documents that were added, replaced or removed, in the order of their first change."""

    def __init__(self) -> None:
        """Begins without changes."""
        self._ids: dict[str, None] = {}
        self._removed: dict[str, None] = {}
        self._new: set[str] = set()

    def __len__(self) -> int:
        """Returns the number of changed documents."""
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        """Yields the ids of all changed documents."""
        yield from self._ids

    @property
    def removed(self) -> Collection[str]:
        """Ids of documents that were removed; they may have been added again."""
        return self._removed

    def note_added(self, ids: Sequence[str], present: Collection[str]) -> None:
        """Notes documents that are about to be added or replaced.

        Args:
            ids: Their ids.
            present: Ids of all documents before.
        """
        for name in ids:
            if name not in self._ids and name not in present:
                self._new.add(name)
            self._ids[name] = None

    def note_removed(self, ids: Sequence[str]) -> None:
        """Notes documents that are removed."""
        self._ids.update(dict.fromkeys(ids))
        self._removed.update(dict.fromkeys(ids))

    def is_last(self, name: str) -> bool:
        """Tells whether a save places a document behind all others: it was not saved before."""
        return name in self._new or name in self._removed

    def renew(self, present: Collection[str]) -> None:
        """Notes which documents are saved now, after others have saved.

        Args:
            present: Ids of the saved documents, without those that were removed here.
        """
        self._new = {name for name in self._ids if name not in present}

    def clear(self) -> None:
        """Forgets all: they are saved."""
        self._ids.clear()
        self._removed.clear()
        self._new.clear()
