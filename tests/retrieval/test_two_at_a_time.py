"""Several hands on one index, one log and one store: whatever they do in whatever order."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engine_world import ABOUT, LAYOUT, unit_vectors
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from subspace.data.records import Record
from subspace.errors import IndexFolderError
from subspace.retrieval import UsageLog
from subspace.retrieval.engines import NumpyEngine, create_engine, folder_engine, open_engine

NAMES = [f"d{n}" for n in range(6)]
HANDS = st.integers(0, 2)
VECTORS = unit_vectors(1)


class Folder(RuleBasedStateMachine):
    """Three engines of one folder, and what must lie there: a dictionary that saves change.

    All is written whole after a few changes, so that savers and readers meet that too.
    """

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.place = tempfile.TemporaryDirectory()
        self.path = Path(self.place.name, "index")
        self.texts = iter(range(10**6))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(folder_engine, "_CHANGES", 5)

    def teardown(self) -> None:
        self.patch.undo()
        self.place.cleanup()

    @initialize(names=st.lists(st.sampled_from(NAMES), unique=True))
    def build(self, names: list[str]) -> None:
        self.generation = 0
        self.stored: dict[str, str] = {}
        self.rebuild(names)
        self.hands = [open_engine(self.path) for _ in range(3)]
        self.known = [dict(self.stored) for _ in self.hands]
        self.changed: list[dict[str, str | None]] = [{} for _ in self.hands]
        self.born = [self.generation] * 3

    @rule(names=st.lists(st.sampled_from(NAMES), unique=True))
    def rebuild(self, names: list[str]) -> None:
        """Somebody makes the index again, of other vectors."""
        self.generation += 1
        about = {**ABOUT, "projection_digest": str(self.generation) * 64}
        engine = create_engine(self.path, **about)
        self.stored = {name: f"text {next(self.texts)}" for name in names}
        records = [Record(id=name, text=text) for name, text in self.stored.items()]
        engine.upsert(records, np.repeat(VECTORS, len(records), axis=0))
        engine.save()

    @rule(hand=HANDS, name=st.sampled_from(NAMES))
    def add(self, hand: int, name: str) -> None:
        number = next(self.texts)
        text = f"text {number}"
        self.hands[hand].upsert([Record(id=name, text=text)], unit_vectors(1, seed=number))
        self.known[hand][name] = self.changed[hand][name] = text

    @rule(hand=HANDS, name=st.sampled_from(NAMES))
    def remove(self, hand: int, name: str) -> None:
        if self.hands[hand].delete([name]):
            del self.known[hand][name]
            self.changed[hand][name] = None

    @rule(hand=HANDS)
    def save(self, hand: int) -> None:
        if self.born[hand] != self.generation:
            with pytest.raises(IndexFolderError, match="built again"):
                self.hands[hand].save()
            return
        self.hands[hand].save()
        lay_over(self.stored, self.changed[hand])
        self.known[hand], self.changed[hand] = dict(self.stored), {}
        found = NumpyEngine.load(self.path)
        assert self.hands[hand].documents == found.documents  # in the same order
        np.testing.assert_array_equal(self.hands[hand].vectors, found.vectors)

    @rule(hand=HANDS)
    def refresh(self, hand: int) -> None:
        if self.born[hand] != self.generation:
            with pytest.raises(IndexFolderError, match="built again"):
                self.hands[hand].refresh()
            return
        changed = self.hands[hand].refresh()
        before, self.known[hand] = self.known[hand], dict(self.stored)
        lay_over(self.known[hand], self.changed[hand])
        assert changed or self.known[hand] == before
        assert not self.hands[hand].refresh()

    @rule(hand=HANDS)
    def open_again(self, hand: int) -> None:
        self.hands[hand] = open_engine(self.path)
        self.known[hand], self.changed[hand] = dict(self.stored), {}
        self.born[hand] = self.generation

    @invariant()
    def all_that_was_saved_is_there(self) -> None:
        found = NumpyEngine.load(self.path)
        assert {d.id: d.text for d in found.documents} == self.stored

    @invariant()
    def each_hand_sees_its_own_changes(self) -> None:
        for hand, known in zip(self.hands, self.known, strict=True):
            assert {d.id: d.text for d in hand.documents} == known

    @invariant()
    def nothing_is_left_over(self) -> None:
        assert len([path for path in self.path.iterdir() if path.name != ".lock"]) == 4


def lay_over(texts: dict[str, str], changed: dict[str, str | None]) -> None:
    """Makes changes: a text, or None for a removal."""
    for name, text in changed.items():
        texts.pop(name, None)
        if text is not None:
            texts[name] = text


Folder.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestFolder = Folder.TestCase


@pytest.mark.slow
def test_processes_that_write_read_and_are_killed_lose_nothing(tmp_path):
    """The stress run of `benchmarks/stress.py`, for a few seconds, on what agents write.

    Stores, shards and checkpoints are killed in tests of their own.
    """
    script = Path(__file__).parents[2] / "benchmarks" / "stress.py"
    done = subprocess.run(
        [
            *(sys.executable, str(script), "--seconds", "2", "--output", str(tmp_path / "stress")),
            *(part for kind in ("index", "refresh", "log") for part in ("--kind", kind)),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with UsageLog.open(tmp_path / "stress" / "usage.db") as log:
        assert len(log)
    assert open_engine(tmp_path / "stress" / "index").layout == LAYOUT
