"""Matrix products in float32: by oneDNN where torch's own choice leaves the processor half idle.

torch multiplies float32 with MKL, which uses registers of 512 bits on processors of its maker
alone. oneDNN, which torch brings as well (and multiplies bfloat16 with), uses them on all: more
than twice as fast on an AMD EPYC, the same products summed in another order.
"""

from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_PROCESSOR = Path("/proc/cpuinfo")


def multiply_fast(model: Any) -> None:
    """Has a frozen float32 model's linear layers multiplied by oneDNN, where that is faster."""
    from torch import nn

    if prefers_onednn():
        for module in model.modules():
            if type(module) is nn.Linear:
                vars(module)["forward"] = MethodType(_multiply, module)


def prefers_onednn() -> bool:
    """Whether this processor has wide registers that MKL does not use; known on Linux alone."""
    import torch

    return bool(
        _PROCESSOR.exists()
        and "GenuineIntel" not in _PROCESSOR.read_text(encoding="utf-8", errors="replace")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _multiply(linear: Any, x: "Tensor") -> "Tensor":
    """X W' + b, as `nn.Linear`."""
    import torch

    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        x, linear.weight, linear.bias, "none", [], ""
    )
    return product
