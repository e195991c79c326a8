"""What makes the measuring of planted worlds quick."""

import pytest


@pytest.fixture(scope="module")
def short_networks():
    """Network probes of a fifth of the steps, which find what is planted all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("subspace.evaluation.probes._STEPS", 40)
        yield
