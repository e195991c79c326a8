"""Products by oneDNN are torch's own, and where torch's are as fast they are left alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from subspace.encoder import Encoder, EncoderSpec, products
from subspace.encoder.products import multiply_fast, prefers_onednn

needs_onednn = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this torch has no oneDNN",
)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (1, 7, 24), (3, 2, 24), (0, 24), (1, 24)])
def test_products_are_those_of_torch(bias, shape, monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 17, bias=bias), nn.GELU(), nn.Linear(17, 9))
    x = torch.randn(shape)
    wanted = model(x)
    multiply_fast(model)
    assert "forward" in vars(model[0])
    with torch.inference_mode():
        torch.testing.assert_close(model(x), wanted)
        # Also of states that do not lie in one piece.
        torch.testing.assert_close(model(x.flip(-1)), model(x.flip(-1).contiguous()))


@needs_onednn
def test_vectors_are_the_same_either_way(monkeypatch):
    texts = ["a dog", "the quick brown fox jumps over the lazy dog " * 9, "x"]
    found = []
    for fast in (True, False):
        monkeypatch.setattr(products, "prefers_onednn", lambda fast=fast: fast)
        found.append(Encoder(EncoderSpec(model="minilm", device="cpu")).encode(texts))
    np.testing.assert_allclose(*found, atol=2e-6)


@pytest.mark.parametrize(
    ("cpuinfo", "capability", "wanted"),
    [
        ("vendor_id : AuthenticAMD", "AVX512", True),
        ("vendor_id : AuthenticAMD", "AVX2", False),
        ("vendor_id : GenuineIntel", "AVX512", False),
        (None, "AVX512", False),
    ],
)
@needs_onednn
def test_it_is_for_wide_processors_of_other_makers(
    cpuinfo, capability, wanted, monkeypatch, tmp_path
):
    path = tmp_path / "cpuinfo"
    if cpuinfo:
        path.write_text(cpuinfo)
    monkeypatch.setattr(products, "_PROCESSOR", path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert prefers_onednn() == wanted


def test_the_encoder_package_does_not_import_torch():
    code = "import sys, subspace.encoder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
