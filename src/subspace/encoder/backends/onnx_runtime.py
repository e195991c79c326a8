"""ONNX Runtime: float32, on processors of any kind."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.arrays import Vectors

if TYPE_CHECKING:
    from torch import Tensor

DISTRIBUTIONS = ("onnxruntime", "onnx", "onnxscript")
OLDEST = (1, 20)
FILE = "model.onnx"


def write_graph(module: Any, example: "Sequence[Tensor]", *, file: Path, dtype: str) -> None:  # noqa: ARG001
    """Converts a torch module; see `Runtime`. It computes in float32 whatever `dtype` is."""
    import torch

    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        module,
        tuple(example),
        str(file),
        dynamic_shapes=tuple({0: free, 1: free} for _ in example),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def open_graph(
    file: Path,
    *,
    dtype: str,  # noqa: ARG001
    streams: int,  # noqa: ARG001 (a session takes any number of calls)
    threads: int,
) -> "_Graph":
    """Opens a model; see `Runtime`."""
    return _Graph(file, threads=threads)


def _import() -> Any:
    """Imports the runtime; since 1.29 it reports to its makers, unless it is told not to.

    It reads the variable when it is loaded. What the user has set stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class _Graph:
    """A session, which any number of threads may use at the same time."""

    def __init__(self, file: Path, *, threads: int) -> None:
        onnxruntime = _import()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        # It would keep the memory of the longest batch.
        options.enable_cpu_mem_arena = False
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors have no common base
            raise RuntimeError(str(error)) from error
        self._names = [one.name for one in self._session.get_inputs()]

    def __call__(self, *inputs: Vectors) -> Vectors:
        named = dict(zip(self._names, inputs, strict=True))
        try:
            found: Vectors = self._session.run(None, named)[0]
        except Exception as error:  # as above
            raise RuntimeError(str(error)) from error
        return found
