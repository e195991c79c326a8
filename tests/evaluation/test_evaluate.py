"""Evaluating an adapted model: queries that it learned from say nothing about it."""

import pytest

from subspace.data.records import Record, read_sources
from subspace.data.retrieval_sets import RetrievalSet
from subspace.encoder import EncoderSpec
from subspace.evaluation import evaluate
from subspace.fitting import Recipe, WeakSupervision, adapt
from subspace.fitting.block_spec import read_blocks
from subspace.fitting.fitting_data import FittingData

pytestmark = pytest.mark.usefixtures("short_networks")
SONGS = RetrievalSet(
    documents=tuple(Record(id=f"d{n}", text=f"song {'lo' * n}") for n in range(12)),
    queries={f"q{n}": f"play {'lo' * n}" for n in range(12)},
    relevance={f"q{n}": {f"d{n}": 1.0} for n in range(12)},
    splits={f"q{n}": "test" for n in range(8, 12)},
)


def test_queries_that_were_learned_from_are_left_out_of_the_report(
    labelled_folder, tiny_qwen, tmp_path
):
    sources = read_sources([labelled_folder / "graded"])
    data = FittingData.encode(
        sources,
        encoder=EncoderSpec(model=str(tiny_qwen), layers=(1, 2), max_length=128),
        weak=WeakSupervision(),
        store=tmp_path,
    )
    before = data.solve(Recipe(blocks=read_blocks({"topic": 8, "complexity": 4})))
    after = adapt(before, SONGS, name="songs", store=tmp_path)

    def measure(model):
        return evaluate(
            model, sources["graded"], retrieval_sets={"songs": SONGS}, seeds=1, store=tmp_path
        )

    report = measure(after)
    assert report.base[0].queries == 4
    assert any("8 of the 12 queries of 'songs' are left out" in one for one in report.warnings)
    assert any("before the search was adapted" in one for one in report.warnings)
    assert measure(before).base[0].queries == 12
