"""The choice of a model's precision: bfloat16 only if it hardly changes the vectors."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.encoder.model import AGREEMENT, FrozenModel
from subspace.encoder.pooling import Pooling
from subspace.encoder.tokens import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

# Sample texts of several lengths and kinds.
_TEXTS = (
    "Bread.",
    "how do i reset the password of my account",
    "The committee has not yet decided whether the bridge will be repaired before the winter.",
    "In 1911 the physicist Heike Kamerlingh Onnes cooled mercury to 4.2 kelvin and saw its "
    "electrical resistance vanish; he called what he had found superconductivity.",
    "def area(width, height): return width * height",
)

_log = logging.getLogger(__name__)


def choose_dtype(folder: Path, *, tokenizer: Tokenizer, device: str, pool: Pooling) -> str:
    """Chooses `bfloat16` if the hardware supports it and vectors hardly change, else `float32`.

    Compares the last layer's vectors of a few sample texts in both precisions: their cosine must
    be at least `AGREEMENT["bfloat16"]`. This loads the model twice. The result is logged.

    Args:
        folder: The model's files.
        tokenizer: The model's tokenizer.
        device: A device name of torch.
        pool: The model's pooling.
    """
    import torch
    from torch.nn.functional import cosine_similarity

    if not has_bfloat16(device):
        _log.info("float32: the processor has no bfloat16")
        return "float32"
    texts = sorted(tokenizer(_TEXTS).ids, key=len)
    lengths = torch.tensor([len(ids) for ids in texts], device=device)

    def encode(dtype: str) -> "Tensor":
        model = FrozenModel(folder, dtype=dtype, device=device)
        (vectors,) = model.run(
            texts, layers=[model.depth], reduce=lambda _, states: pool(states, lengths)
        )
        return vectors

    worst = float(cosine_similarity(encode("float32"), encode("bfloat16"), dim=-1).min())
    chosen = "bfloat16" if worst >= AGREEMENT["bfloat16"] else "float32"
    _log.info("%s: the smallest cosine of bfloat16 to float32 is %.6f", chosen, worst)
    return chosen


def has_bfloat16(device: str) -> bool:
    """Tells whether the hardware multiplies bfloat16 itself; emulation would save no time."""
    import torch

    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Missing in older versions of torch.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
