"""Watching: keeps a memory equal to a folder of skills and notes while both are in use."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from watchfiles import Change, watch

from subspace.errors import SubspaceError
from subspace.serve.memory import Memory

_log = logging.getLogger(__name__)

# Milliseconds without a change after which the folder is read: editors write in several steps.
_QUIET_MS = 300
# Longest wait for the thread at a stop, in seconds; a change that it makes is written as a whole.
_STOP_S = 30.0


@contextmanager
def watching(memory: Memory, folder: Path) -> Iterator[None]:
    """Follows a folder in a thread for as long as the block runs.

    What cannot be read stays in the memory as it was, and is logged.
    """
    stop = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(memory, folder, stop), name="subspace-watch", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_S)


def _watch(memory: Memory, folder: Path, stop: threading.Event) -> None:
    for _ in watch(
        folder,
        watch_filter=_concerns,
        step=_QUIET_MS,
        debounce=10 * _QUIET_MS,
        stop_event=stop,
        raise_interrupt=False,
    ):
        follow(memory, folder)


def follow(memory: Memory, folder: Path) -> None:
    """Makes a memory equal to a folder now, and logs what changed and what could not be read."""
    try:
        changes = memory.follow(folder)
    except SubspaceError as error:
        _log.warning("%s was not followed: %s", folder, error)
        return
    except Exception:  # the thread must go on: the next change may be one that works
        _log.exception("%s was not followed", folder)
        return
    if changes or changes.problems:
        _log.info("%s: %s", folder, changes.say())
    for problem in changes.problems:
        _log.warning("left as it was: %s", problem)


def _concerns(change: Change, path: str) -> bool:
    """Tells whether a change may be one of notes: of a Markdown file, or of a folder."""
    name = Path(path).name
    hidden = any(part.startswith(".") for part in Path(path).parts[-2:])
    return not hidden and (name.lower().endswith(".md") or change != Change.modified)
