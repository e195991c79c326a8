"""How many threads torch uses on a processor: one where the work is small."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Operations of a forward pass that one core does in some 50 ms. With less work, waiting for other
# threads takes longer than they save, and many times longer where other programs are busy.
SMALL = 4e9

_lock = threading.Lock()
_running = 0
_usual = 1


@contextmanager
def threads_for(operations: float) -> Iterator[None]:
    """Lets torch use one thread inside the block, if there are few operations.

    Threads of a process may be in such blocks at the same time.
    """
    import torch

    global _running, _usual
    if operations > SMALL or (torch.get_num_threads() == 1 and not _running):
        yield
        return
    with _lock:
        if not _running:
            _usual = torch.get_num_threads()
        _running += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            torch.set_num_threads(_usual)
