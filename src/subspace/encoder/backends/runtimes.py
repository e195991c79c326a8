"""The runtimes that a model can be converted for, and which of them are to be used."""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from subspace.arrays import Vectors
from subspace.errors import EncoderError, install_command

if TYPE_CHECKING:
    from torch import Tensor

BACKENDS = ("auto", "torch", "openvino", "onnx")
# What `auto` is, where it is not to be the first runtime that is installed.
ENVIRONMENT_VARIABLE = "SUBSPACE_ENCODER_BACKEND"


class Graph(Protocol):
    """A loaded model; threads may call it at the same time."""

    def __call__(self, *inputs: Vectors) -> Vectors:
        """Computes vectors (N, dim) from token embeddings, and masks of (N, tokens)."""
        ...


class Runtime(Protocol):
    """What the module of a runtime has.

    Attributes:
        DISTRIBUTIONS: Packages that conversion needs; the first one is the runtime.
        OLDEST: The oldest version that is used, as numbers.
        FILE: Name of the file that holds a model.
    """

    DISTRIBUTIONS: tuple[str, ...]
    OLDEST: tuple[int, ...]
    FILE: str

    def write_graph(
        self, module: Any, example: "Sequence[Tensor]", *, file: Path, dtype: str
    ) -> None:
        """Converts a torch module, given an example of its inputs, and writes it to `file`.

        Raises:
            RuntimeError: The module cannot be converted.
        """

    def open_graph(self, file: Path, *, dtype: str, streams: int, threads: int) -> Graph:
        """Opens what `write_graph` wrote.

        Args:
            file: The file.
            dtype: `float32` or `bfloat16`.
            streams: How many calls run at the same time.
            threads: How many threads each of them uses.

        Raises:
            RuntimeError: The file cannot be read.
        """
        ...


def load_runtime(name: str) -> Runtime:
    """Imports the module of a runtime; the runtime itself is imported when it is needed."""
    return cast(Runtime, import_module(f"subspace.encoder.backends.{name}_runtime"))


def named_backend(backend: str) -> str:
    """Returns the backend of a spec, or for `auto` the one that the environment names, if any."""
    return os.environ.get(ENVIRONMENT_VARIABLE, backend) if backend == "auto" else backend


def chosen_runtimes(backend: str) -> tuple[list[str], bool]:
    """Returns the runtimes that may compute, the preferred one first, and whether one must.

    Args:
        backend: One of `BACKENDS`, as in an `EncoderSpec`.

    Raises:
        EncoderError: There is no such backend, or a runtime that must compute is not installed or
            too old.
    """
    given, backend = backend, named_backend(backend)
    said = "backend" if backend == given else ENVIRONMENT_VARIABLE
    if backend not in BACKENDS:
        raise EncoderError(f"{said} must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "torch":
        return [], False
    if backend == "auto":
        return [name for name in BACKENDS[2:] if not find_fault(name)], False
    fault = find_fault(backend)
    if fault:
        raise EncoderError(f"{said} {backend!r} cannot be used: {fault}")
    return [backend], True


def find_fault(name: str) -> str:
    """Returns why a runtime cannot be used, in a sentence; empty if it can."""
    runtime = load_runtime(name)
    found = installed_version(name)
    package, oldest = runtime.DISTRIBUTIONS[0], ".".join(map(str, runtime.OLDEST))
    if found is None:
        return f"{package} is not installed; run: {install_command(name)}"
    if _numbers(found) < runtime.OLDEST:
        return (
            f"{package} {found} is too old, {oldest} or later is needed; run: "
            f"{install_command(name)}"
        )
    return ""


def find_missing(name: str) -> str:
    """Returns why a model cannot be converted for an installed runtime; empty if it can."""
    missing = [one for one in load_runtime(name).DISTRIBUTIONS if _version(one) is None]
    if not missing:
        return ""
    return f"conversion needs {' and '.join(missing)}; run: {install_command(name)}"


def installed_version(name: str) -> str | None:
    """Returns the version of a runtime; None if it is not installed."""
    return _version(load_runtime(name).DISTRIBUTIONS[0])


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """Returns the leading numbers of a version."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)
