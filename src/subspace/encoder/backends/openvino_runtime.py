"""OpenVINO: float32, and bfloat16 where the processor has it."""

import importlib
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from subspace.arrays import Vectors

if TYPE_CHECKING:
    from torch import Tensor

DISTRIBUTIONS = ("openvino",)
OLDEST = (2026, 4)  # what it was tested with
FILE = "model.blob"

_CONVERTER = "openvino.tools.ovc"
_importing = threading.Lock()


def write_graph(module: Any, example: "Sequence[Tensor]", *, file: Path, dtype: str) -> None:
    """Converts a torch module; see `Runtime`.

    What is written is compiled for this processor and this version of OpenVINO, which saves two
    thirds of the time to open it.
    """
    openvino = _import_openvino()
    try:
        model = _convert(module, example)
    except Exception as error:  # its errors have no common base, and end with a summary
        raise RuntimeError(str(error).strip().splitlines()[-1]) from error
    for node, tensor in zip(model.inputs, example, strict=True):
        sizes = [-1, -1, *tensor.shape[2:]]  # any number of texts and tokens
        node.get_node().set_element_type(openvino.Type.f32)
        node.get_node().set_partial_shape(openvino.PartialShape(sizes))
    model.validate_nodes_and_infer_types()
    compiled = openvino.Core().compile_model(model, "CPU", _settings(dtype, streams=1, threads=1))
    file.write_bytes(compiled.export_model().getvalue())


def _convert(module: Any, example: "Sequence[Tensor]") -> Any:
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    converter = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(module, example_input=tuple(example))
    return converter.convert(converter.load(decoder))


def open_graph(file: Path, *, dtype: str, streams: int, threads: int) -> "_Graph":
    """Opens a compiled model; see `Runtime`."""
    return _Graph(file, settings=_settings(dtype, streams=streams, threads=threads))


class _Graph:
    """A compiled model with one request per thread that calls it."""

    def __init__(self, file: Path, *, settings: dict[str, Any]) -> None:
        openvino = _import_openvino()
        # The model uses weights where they lie in the file: reading them would take as much memory
        # again.
        self._content = np.memmap(file, dtype=np.uint8, mode="c")
        self._tensor = openvino.Tensor(self._content, shared_memory=True)
        self._compiled = openvino.Core().import_model(self._tensor, "CPU", settings)
        self._requests = threading.local()

    def __del__(self) -> None:
        """Closes the model before its file."""
        for name in ("_requests", "_compiled", "_tensor", "_content"):
            vars(self).pop(name, None)

    def __call__(self, *inputs: Vectors) -> Vectors:
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._compiled.create_infer_request()
        found: Vectors = request.infer(list(inputs), share_inputs=True)[0]
        return found


def _settings(dtype: str, *, streams: int, threads: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams * threads,
        "ENABLE_CPU_PINNING": False,  # other programs use the processor as well
    }


def _import_openvino() -> ModuleType:
    """Imports OpenVINO without its converter.

    As it is imported, the converter sends a report of it over the network, and takes most of the
    time. Others in this process find it as usual when they ask for it.
    """
    with _importing:
        if "openvino" in sys.modules:
            return importlib.import_module("openvino")  # waits while others import it
        return _import_without_converter()


def _import_without_converter() -> ModuleType:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]

    def import_converter(name: str) -> Any:
        if name != "convert_model":
            raise AttributeError(f"module 'openvino' has no attribute '{name}'")
        return importlib.import_module(_CONVERTER).convert_model

    openvino.__getattr__ = import_converter  # type: ignore[method-assign]
    return openvino
