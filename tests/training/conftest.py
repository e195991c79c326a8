"""A data module whose vectors are stored, and what trains on it."""

from pathlib import Path

import pytest

from subspace.data.records import read_sources
from subspace.encoder import EncoderSpec
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.weak.weak_supervision import WeakSupervision

STEPS_PER_EPOCH = 5


@pytest.fixture(scope="session")
def stored(labelled_folder: Path, tiny_qwen: Path, tmp_path_factory) -> dict:
    """Arguments of a data module whose vectors are stored."""
    from subspace.training.data_module import FactorData  # imports the trainer, which takes seconds

    arguments = {
        "sources": [str(labelled_folder)],
        "encoder": EncoderSpec(model=str(tiny_qwen), layers=(1, 2)),
        "store": str(tmp_path_factory.mktemp("store")),
        "batch_size": 32,
        "steps_per_epoch": STEPS_PER_EPOCH,
    }
    FactorData(**arguments).prepare_data()
    return arguments


@pytest.fixture(scope="session")
def encoded(stored: dict) -> FittingData:
    """The same texts as the solver takes them."""
    return FittingData.encode(
        read_sources(stored["sources"]),
        encoder=stored["encoder"],
        weak=WeakSupervision(),
        store=stored["store"],
    )
