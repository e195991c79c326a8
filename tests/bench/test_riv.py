"""A replay is a search, a use and a log entry for each task; its tables can be read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import model_of
from worlds import turned

from subspace.bench.replay import Fixed, replay
from subspace.bench.riv import run_riv
from subspace.bench.riv_results import BANDIT, RELEVANCE
from subspace.bench.riv_tables import riv_markdown, write_riv
from subspace.bench.spaces import Space, make_spaces
from subspace.blocks import BlockLayout, unit_blocks
from subspace.cli import main
from subspace.data.records import Record
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import ConfigError
from subspace.model import Model
from subspace.retrieval import BlockIndex, UsageLog
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.presets import PRESETS
from subspace.retrieval.weights import Weights

LAYOUT = BlockLayout.from_widths({"topic": 6, "style": 4})
TASKS, DOCUMENTS = 24, 18


def make_world(seed: int = 0, *, layout: BlockLayout = LAYOUT) -> tuple[Space, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(TASKS + DOCUMENTS, layout.dim)).astype(np.float32)
    z = unit_blocks(z, layout=layout)
    scales = {name: 2.0**number for number, name in enumerate(layout)}
    relevant = np.zeros((TASKS, DOCUMENTS), dtype=bool)
    relevant[np.arange(TASKS), rng.integers(0, DOCUMENTS, TASKS)] = True
    return Space("world", layout, z[:DOCUMENTS], z[DOCUMENTS:], scales), relevant


@pytest.mark.parametrize("scope", ["block", "item"])
def test_a_replay_is_searching_using_and_logging_one_by_one(scope, tmp_path):
    space, relevant = make_world()
    weights = Weights.make(layout=LAYOUT, preset="balanced")
    order = np.random.default_rng(1).permutation(TASKS)
    run = replay(space, relevant=relevant, order=order, policy=Fixed(weights), scope=scope)
    engine = NumpyEngine(layout=LAYOUT, projection_digest="0")
    engine.upsert([Record(id=str(n), text="text") for n in range(DOCUMENTS)], space.documents)
    ever: set[str] = set()
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        # A replay measures the formula of the published experiment, which has no floors.
        index = BlockIndex(engine, usage=log, recency_floor=0, importance_floor=0)
        for step, task in enumerate(order):
            scaled = weights.scaled(space.scales)
            hits = index.search(space.queries[task], weights=scaled, scope=scope, k=5)
            success = {hit.id: float(relevant[task, int(hit.id)]) for hit in hits}
            assert run.hit[task] == any(success.values())
            gains = [success[hit.id] / np.log2(rank + 2) for rank, hit in enumerate(hits)]
            assert run.ndcg[task] == pytest.approx(sum(gains))
            ever |= set(success)
            assert run.shown[step] == len(ever)
            log.add(success.items())


def test_what_was_used_changes_what_comes_after_and_relevance_alone_does_not():
    space, relevant = make_world()
    order = np.arange(TASKS)

    def ranks(order: np.ndarray, weights: Weights) -> np.ndarray:
        run = replay(space, relevant=relevant, order=order, policy=Fixed(weights), scope="block")
        return run.reciprocal_rank

    alone, mixed = Weights.equal(LAYOUT), Weights.make(layout=LAYOUT, preset="balanced")
    assert (ranks(order, alone) == ranks(order[::-1], alone)).all()
    assert (ranks(order, mixed) != ranks(order[::-1], mixed)).any()


def test_the_scales_of_a_space_change_its_rankings():
    space, relevant = make_world()

    def ranks(space: Space) -> np.ndarray:
        policy = Fixed(Weights.equal(LAYOUT))
        order = np.arange(TASKS)
        run = replay(space, relevant=relevant, order=order, policy=policy, scope="block")
        return run.reciprocal_rank

    assert (ranks(space) != ranks(replace(space, scales=dict.fromkeys(LAYOUT, 1.0)))).any()


@pytest.fixture(scope="module")
def model(tiny_qwen) -> Model:
    """Blocks of two layers, with a matrix of their own for queries."""
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), layers=(1, 2), device="cpu"))
    plain = model_of(encoder, widths=LAYOUT.to_widths())
    spreads = {"topic": 0.2, "style": 0.1}
    return replace(plain, projection=turned(plain.projection)[0], score_spreads=spreads)


def test_spaces_are_the_last_layer_and_all_blocks_of_the_model(model):
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(DOCUMENTS, 64)).astype(np.float32)
    queries = rng.normal(size=(TASKS, 64)).astype(np.float32)
    raw, blocks = make_spaces(documents=documents, queries=queries, model=model)
    cosines = raw.queries @ raw.documents.T
    x, y = queries[0, 32:], documents[3, 32:]
    wanted = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert cosines[0, 3] == pytest.approx(wanted, abs=1e-6)
    assert (raw.layout.dim, raw.scales) == (32, {"whole": 1.0})
    centred = model.centred_on(documents)  # as an index of them
    assert (blocks.layout, blocks.scales) == (LAYOUT, centred.score_scales)
    assert blocks.scales != model.score_scales
    np.testing.assert_array_equal(blocks.documents, model.projection(documents))
    np.testing.assert_array_equal(blocks.queries, model.projection.queries(queries))
    assert not np.allclose(blocks.queries, model.projection(queries))


def test_every_block_alone_is_a_policy_however_little_its_scores_vary():
    """The documents are all alike in the second block."""
    space, relevant = make_world()
    documents = space.documents.copy()
    documents[:, LAYOUT.slice("style")] = documents[:1, LAYOUT.slice("style")]
    bench = run_riv([replace(space, documents=documents)], relevant=relevant, orders=1)
    alone = {row.policy for row in bench.relevance("world")}
    assert alone == {RELEVANCE, f"{RELEVANCE}/topic", f"{RELEVANCE}/style"}
    fixed = {row.policy for row in bench.fixed("world")}
    assert fixed == {f"{name}{end}" for name in PRESETS for end in ("", "/topic", "/style")}
    arms = fixed | {"relevance", "relevance/topic", "relevance/style"}
    assert set(bench.find("world", BANDIT).arms) <= arms


def test_the_bench_is_written_for_people_and_machines_and_is_the_same_again(tmp_path):
    space, relevant = make_world(layout=BlockLayout(("whole",), (8,)))
    pages = []
    for name in ("one", "two"):
        bench = run_riv([space], relevant=relevant, orders=2, seed=3, notes=("mind this",))
        (tmp_path / name).mkdir()
        write_riv(bench, folder=tmp_path / name)
        files = [tmp_path / name / f"riv.{kind}" for kind in ("json", "md", "png")]
        pages.append([file.read_bytes() for file in files])
    assert pages[0] == pages[1]
    written = json.loads(pages[0][0])
    assert (written["tasks"], written["documents"], written["orders"]) == (TASKS, DOCUMENTS, 2)
    assert {row["space"] for row in written["rows"]} == {"world"}
    page = riv_markdown(bench)
    assert all(f"| {name} |" in page for name in ("balanced", RELEVANCE))
    assert "**Note:** mind this." in page
    assert pages[0][2].startswith(b"\x89PNG")
    low, high = bench.find("world", "balanced").interval()
    assert low < bench.find("world", "balanced").ndcg < high
    assert len(bench.find("world", BANDIT).arms) == 8
    assert bench.find("world", RELEVANCE).ndcg > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"orders": 0}, "orders must be 1 or more"), ({"half_life": 0}, "half-life must be above 0")],
)
def test_options_out_of_range_are_refused(options, message):
    space, relevant = make_world()
    with pytest.raises(ConfigError, match=message):
        run_riv([space], relevant=relevant, **options)


def test_the_command_writes_what_it_prints(model, tmp_path, capsys):
    model.save(tmp_path / "checkpoint")
    write_set(tmp_path / "data")
    paths = {"checkpoint": "checkpoint", "data": "data", "store": "store", "output": "out"}
    given = [part for k, v in paths.items() for part in (f"--{k}", str(tmp_path / v))]
    assert main(["bench", "riv", *given, "--orders", "1", "--until", " Then"]) == 0
    page = (tmp_path / "out" / "riv.md").read_text()
    assert capsys.readouterr().out.startswith(page)
    assert "## raw embedding" in page
    assert "relevance alone/style" in page
    assert main(["bench", "riv", *given, "--orders", "0"]) == 2
    assert "--orders must be 1 or more" in capsys.readouterr().err


def write_set(folder: Path) -> None:
    """Six documents, and a task for each."""
    folder.mkdir()
    names = ("cats", "trains", "bread", "rain", "glass", "maps")
    for file, text in (("corpus", "all about {}. Then more."), ("queries", "{}?")):
        lines = [json.dumps({"_id": name, "text": text.format(name)}) for name in names]
        (folder / f"{file}.jsonl").write_text("\n".join(lines))
    (folder / "qrels.tsv").write_text("\n".join(f"{name}\t{name}\t1" for name in names))
