"""Watching: keeps a memory equal to a folder of skills and notes while both are in use."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from watchfiles import Change, watch

from subspace.errors import SubspaceError
from subspace.serve.memory import Memory

_log = logging.getLogger(__name__)

# Milliseconds without a change after which the folder is read: editors write in several steps.
_QUIET_MS = 300
# Milliseconds after which it is read even if no change was told of.
_AGAIN_MS = 60_000
# Milliseconds after which the system tells of changes; the folder is then read once more.
_BEGIN_MS = 1000
# Longest wait for the thread at a stop, in seconds; a change that it makes is written as a whole.
_STOP_S = 30.0


@contextmanager
def watching(memory: Memory, folder: Path, *, told: frozenset[str] = frozenset()) -> Iterator[None]:
    """Follows a folder in a thread for as long as the block runs.

    What cannot be read stays in the memory as it was, and is logged once.

    Args:
        memory: The memory.
        folder: The folder.
        told: Problems that were logged before; see `follow`.
    """
    stop = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(memory, folder, stop, told), name="subspace-watch", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_S)


def _watch(memory: Memory, folder: Path, stop: threading.Event, told: frozenset[str]) -> None:
    """Follows the folder now, after every change that is told of, and every minute.

    The system does not tell of all: a file behind a link, a folder that was made again, a disk
    that others write; and what could not be followed is tried again.
    """
    while not stop.is_set():
        told = follow(memory, folder, told=told)
        began, missed_none = time.monotonic(), False
        try:
            for changes in watch(
                folder,
                watch_filter=partial(_concerns, folder=folder),
                step=_QUIET_MS,
                debounce=10 * _QUIET_MS,
                rust_timeout=min(_BEGIN_MS, _AGAIN_MS),
                yield_on_timeout=True,
                stop_event=stop,
                raise_interrupt=False,
            ):
                if changes or not missed_none:  # what changed before the system began to tell
                    told, missed_none = follow(memory, folder, told=told), True
                elif time.monotonic() - began > _AGAIN_MS / 1000:
                    break  # watches anew, should the folder be another by now
        except (OSError, RuntimeError):  # the folder is gone; it may come back
            stop.wait(_AGAIN_MS / 1000)


def follow(memory: Memory, folder: Path, *, told: frozenset[str] = frozenset()) -> frozenset[str]:
    """Makes a memory equal to a folder now, and logs what changed and what could not be read.

    Args:
        memory: The memory.
        folder: The folder.
        told: Problems that were logged before: they are not logged again while they last.

    Returns:
        The problems that there are now.
    """
    try:
        changes = memory.follow(folder)
    except SubspaceError as error:
        problem = f"{folder} was not followed: {error}"
        if problem not in told:
            _log.warning("%s", problem)
        return frozenset({problem})
    except Exception:  # the thread must go on: the next change may be one that works
        _log.exception("%s was not followed", folder)
        return told
    new = [problem for problem in changes.problems if problem not in told]
    if changes or new:
        _log.info("%s: %s", folder, changes.say())
    for problem in new:
        _log.warning("left as it was: %s", problem)
    return frozenset(changes.problems)


def _concerns(change: Change, path: str, *, folder: Path) -> bool:
    """Tells whether a change may be one of notes: of a Markdown file, or of a folder."""
    inside = Path(os.path.relpath(path, folder))
    hidden = any(part.startswith(".") for part in inside.parts)
    return not hidden and (inside.suffix.lower() == ".md" or change != Change.modified)
