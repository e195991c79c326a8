"""Matrix products in float32 with oneDNN, on processors where torch's default, MKL, is slow.

MKL uses 512-bit registers on Intel processors only. oneDNN, which torch includes as well (and uses
for bfloat16), uses them on all processors and is more than twice as fast on an AMD EPYC. It sums in
another order, so results differ by rounding.
"""

from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_PROCESSOR = Path("/proc/cpuinfo")


def multiply_fast(model: Any) -> None:
    """Makes the linear layers of a frozen float32 model use oneDNN, where that is faster."""
    from torch import nn

    if prefers_onednn():
        for module in model.modules():
            if type(module) is nn.Linear:
                vars(module)["forward"] = MethodType(_multiply, module)


def prefers_onednn() -> bool:
    """Tells whether this processor has 512-bit registers that MKL does not use; Linux only."""
    import torch

    return bool(
        _PROCESSOR.exists()
        and "GenuineIntel" not in _PROCESSOR.read_text(encoding="utf-8", errors="replace")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _multiply(linear: Any, x: "Tensor") -> "Tensor":
    """Computes X W' + b, as `nn.Linear` does."""
    import torch

    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        x, linear.weight, linear.bias, "none", [], ""
    )
    return product
