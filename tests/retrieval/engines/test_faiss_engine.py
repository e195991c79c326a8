"""faiss finds candidates; what is found is what an exact scan finds, and nothing fresh is lost."""

import json
import logging
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import pytest
from engine_world import DIGEST, file_of, make_records, write_index
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError, IndexFolderError
from subspace.retrieval.engines import (
    Candidates,
    NumpyEngine,
    Priors,
    create_engine,
    faiss_candidates,
    faiss_engine,
    open_engine,
)
from subspace.retrieval.engines.candidate_scores import score_own_rows
from subspace.retrieval.engines.faiss_candidates import METHODS, CompressedIndex
from subspace.retrieval.engines.faiss_engine import INDEX, FaissEngine
from subspace.retrieval.engines.index_folder import (
    Stored,
    seal,
)
from subspace.retrieval.engines.vector_rows import VectorRows

LAYOUT = BlockLayout.from_widths({"topic": 40, "style": 21, "tone": 10})
COUNT = 2200


def clustered(
    count: int = COUNT, *, layout: BlockLayout = LAYOUT, seed: int = 0, spread: float = 0.5
) -> np.ndarray:
    """Unit blocks around 30 centres each, most of what varies along few directions."""
    rng = np.random.default_rng(seed)
    z = np.concatenate(
        [
            (rng.normal(size=(30, width))[rng.integers(0, 30, count)] + spread * noise)
            * np.arange(1, width + 1) ** -0.5
            for width in layout.widths
            for noise in [rng.normal(size=(count, width))]
        ],
        axis=1,
    )
    return unit_blocks(z.astype(np.float32), layout=layout)


def documents(count: int = COUNT, *, first: int = 0) -> list[Record]:
    return make_records(count, first=first, metadata=lambda n: {"third": n % 3 == 0})


def make_pair(
    vectors: np.ndarray, *, layout: BlockLayout = LAYOUT, **settings
) -> tuple[FaissEngine, NumpyEngine]:
    """The engine, built, and the exact scan of the same documents."""
    about = {"layout": layout, "projection_digest": "0" * 64}
    exact = NumpyEngine(**about, dtype=settings.get("dtype", "float32"))
    engine = FaissEngine(**about, **settings)
    for each in (engine, exact):
        each.upsert(documents(len(vectors)), vectors)
    engine.build()
    return engine, exact


@pytest.fixture(scope="module", autouse=True)
def searched_as_if_they_were_many() -> Iterator[None]:
    """Candidates although a scan of so few documents is faster; recall by few queries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_engine, "_COST", 0.4)
        patch.setattr(faiss_engine, "_COST_BATCHED", 0.4)
        patch.setattr(faiss_engine, "_MEASURED", 12)
        yield


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[FaissEngine, NumpyEngine]]:
    """By method; not to be changed."""
    return {method: make_pair(clustered(), method=method) for method in METHODS}


@pytest.fixture(params=METHODS)
def pair(request, pairs) -> tuple[FaissEngine, NumpyEngine]:
    """Not to be changed."""
    return pairs[request.param]


@pytest.fixture(scope="module")
def saved(pairs, tmp_path_factory) -> dict[str, Path]:
    """A folder by method, with as many candidates as can be without a scan of all."""
    folders = {}
    for method, (engine, _) in pairs.items():
        folders[method] = tmp_path_factory.mktemp("saved") / method
        engine.save(folders[method])
        change_settings(folders[method], rescore=900)
    return folders


def open_pair(
    saved: dict[str, Path], tmp_path: Path, *, rescore: int
) -> tuple[FaissEngine, NumpyEngine]:
    """The saved engine with so many candidates, and the exact scan of the same documents."""
    folder = shutil.copytree(saved["pq"], tmp_path / "index")
    change_settings(folder, rescore=rescore)
    exact = NumpyEngine(layout=LAYOUT, projection_digest=DIGEST)
    exact.upsert(documents(), clustered())
    return FaissEngine.load(folder), exact


def change_settings(folder: Path, **changed) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"] |= changed
    (folder / "manifest.json").write_text(json.dumps(seal(manifest)))


def hardest(queries: np.ndarray, *, layout: BlockLayout = LAYOUT) -> np.ndarray:
    """Each query by every block alone, by all, and by all but one."""
    tables = [*np.eye(len(layout)), np.ones(len(layout)), *(1 - np.eye(len(layout)))]
    spread = [np.repeat(table, layout.widths).astype(np.float32) for table in tables]
    return np.concatenate([queries * weights for weights in spread])


def best(found: Sequence[Candidates], queries: np.ndarray, *, k: int = 10) -> list[list[str]]:
    """The ids of the best k."""
    return [
        [f.documents[row].id for row in np.argsort(-(f.vectors @ query), kind="stable")[:k]]
        for f, query in zip(found, queries, strict=True)
    ]


def recall(engine: FaissEngine, exact: NumpyEngine, queries: np.ndarray) -> float:
    ours, theirs = (best(each.search(queries, k=10), queries) for each in (engine, exact))
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(ours, theirs, strict=True)]))


def names(found: Sequence[Candidates]) -> list[set[str]]:
    return [{document.id for document in f.documents} for f in found]


def share(found: Sequence[Candidates], wanted: Sequence[Candidates]) -> float:
    pairs = zip(names(found), names(wanted), strict=True)
    return float(np.mean([len(ours & theirs) / len(theirs) for ours, theirs in pairs]))


def assert_same(engine: FaissEngine, exact: NumpyEngine, queries: np.ndarray, **options) -> None:
    ours, theirs = engine.search(queries, **options), exact.search(queries, **options)
    assert names(ours) == names(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.documents == b.documents
        np.testing.assert_array_equal(a.vectors, b.vectors)


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# What it finds.


def test_recall_is_high_under_the_hardest_weights(pair):
    engine, exact = pair
    assert not engine.exact
    queries = hardest(clustered(60, seed=5))
    assert recall(engine, exact, queries) >= 0.98
    assert engine.recall is not None
    assert engine.recall.worst.worst >= 0.98


def test_without_scoring_the_candidates_exactly_it_would_be_low(pairs):
    engine, exact = pairs["pq"]
    queries = hardest(clustered(60, seed=5))
    _, rows = engine._candidates.search(queries, count=10)
    theirs = best(exact.search(queries, k=10), queries)
    shares = [
        len({f"d{row}" for row in a} & set(b)) / 10 for a, b in zip(rows, theirs, strict=True)
    ]
    assert np.mean(shares) < 0.9


def test_a_batch_is_searched_by_candidates_as_one_query_is(pair, monkeypatch):
    """Whoever compares it with a scan below compares these."""
    engine, _ = pair
    searched = []
    search = CompressedIndex.search

    def noted(self, queries, *, count):
        searched.append((len(queries), count))
        return search(self, queries, count=count)

    monkeypatch.setattr(CompressedIndex, "search", noted)
    engine.search(clustered(60, seed=5), k=10)
    engine.search(clustered(1, seed=5), k=10)
    assert (60, engine.rescore) in searched
    assert (1, engine.rescore) in searched


@pytest.mark.parametrize("places", ["fixed", "added", "both", "moved"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_each_query_is_scored_with_rows_of_its_own_wherever_they_lie(dtype, places):
    z = clustered(40).astype(dtype)
    vectors = VectorRows(z if places == "fixed" else z[: 0 if places == "added" else 30])
    if places != "fixed":
        vectors.append(z[len(vectors) :])
    if places == "moved":
        vectors.delete(np.array([3, 35]))
        z = np.delete(z, [3, 35], axis=0)
    queries = clustered(5, seed=1).astype(np.float64)
    rows = np.random.default_rng(0).integers(-1, len(z), size=(5, 9))
    rows[:, 0] = -1
    wanted = np.einsum("qd,qnd->qn", queries, z[rows].astype(np.float64))
    scores = score_own_rows(queries, vectors, rows)
    assert scores.dtype == np.float32
    assert np.isneginf(scores[rows < 0]).all()
    np.testing.assert_allclose(scores[rows >= 0], wanted[rows >= 0], atol=1e-5)


def test_a_document_with_a_prior_whose_vector_is_damaged_is_named_and_not_left_out():
    engine, _ = make_pair(clustered())
    engine._vectors.whole()[7, 3] = np.nan
    with pytest.raises(IndexFolderError, match="'d7' holds NaN"):
        engine.search(clustered(1, seed=5), k=10, priors=Priors(["d7"], np.zeros(1), 0.0))


def test_few_documents_are_scanned_exactly_without_an_index(tmp_path):
    vectors = clustered(1999)
    engine, exact = make_pair(vectors)
    assert engine.exact and engine.recall is None
    engine.save(tmp_path / "index")
    assert not list((tmp_path / "index").glob("candidates*"))
    again = FaissEngine.load(tmp_path / "index")
    assert again.exact
    assert_same(again, exact, hardest(vectors[:5]), k=7)
    more, _ = make_pair(clustered(2000))
    assert not more.exact


def test_where_a_scan_costs_less_it_is_what_is_done(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(faiss_engine, "_COST", 15)
    monkeypatch.setattr(faiss_engine, "_COST_BATCHED", 60)
    scanned, _ = make_pair(clustered())
    assert scanned.exact  # 500 candidates cost as much as 7,500 rows
    engine, exact = open_pair(saved, tmp_path, rescore=40)
    assert not engine.exact
    # For one query 2,200 rows cost more than 40 candidates, and a half of each more than 100; a
    # quarter costs less. For five queries they cost less than 5 times as much.
    assert engine._costs_more(40, queries=1) is False
    assert engine._costs_more(100, queries=1, asked=0.5) is False
    assert engine._costs_more(100, queries=1, asked=0.25) is True
    assert engine._costs_more(40, queries=5) is True
    assert_same(engine, exact, hardest(clustered(9, seed=5)), k=11)


def test_float16_finds_what_an_exact_scan_of_float16_finds():
    engine, exact = make_pair(clustered(), dtype="float16")
    assert engine.vectors.dtype == np.float16
    assert recall(engine, exact, hardest(clustered(40, seed=5))) >= 0.98


def test_too_few_candidates_cost_time_and_no_recall(saved, tmp_path):
    engine, exact = open_pair(saved, tmp_path, rescore=1)
    assert recall(engine, exact, hardest(clustered(40, seed=5))) >= 0.98


def test_what_all_documents_have_alike_changes_no_certainty(pairs):
    engine, _ = pairs["pq"]
    query = clustered(1, seed=5)
    (guesses,), rows = engine._candidates.search(query, count=500)
    (scores,) = score_own_rows(query, engine._vectors, rows)
    certainties = []
    for default in (0.0, 5.0, -5.0):
        priors = Priors(["d0"], np.zeros(1), default)
        set_apart = engine._set_apart(priors, candidates=engine._candidates)
        apart = engine._score_apart(query, *set_apart, priors=priors)
        best, certainty = engine._sift(
            query[0], guesses, scores, rows[0], number=0, k=10, apart=apart
        )
        assert len(best) == 10
        certainties.append(certainty)
    np.testing.assert_allclose(certainties, certainties[0], rtol=1e-2)


# Narrow blocks: 4 dimensions in which all documents are almost alike.

NARROW = BlockLayout.from_widths({"topic": 64, "complexity": 4})


def narrow_cone(count: int = 12_000, *, seed: int = 0) -> np.ndarray:
    z = clustered(count, layout=NARROW, seed=seed)
    rng = np.random.default_rng(seed)
    z[:, 64:] = np.array([1, 0, 0, 0]) + 0.05 * rng.normal(size=(count, 4))
    return unit_blocks(z, layout=NARROW)


def test_where_candidates_cannot_be_told_apart_codes_give_way_to_a_scan():
    vectors = narrow_cone()
    engine, exact = make_pair(vectors, layout=NARROW, rescore=100)
    queries = vectors[:30].copy()
    queries[:, :64] = 0
    _, rows = engine._candidates.search(queries, count=100)
    candidates = [{f"d{row}" for row in near} for near in rows]
    for priors in (None, Priors(["d0"], np.zeros(1), 5.0)):
        found = engine.search(queries, k=10, priors=priors)
        wanted = exact.search(queries, k=10, priors=priors)
        assert share(found, wanted) >= 0.98
        held = [len(a & b) / len(b) for a, b in zip(candidates, names(wanted), strict=True)]
        assert np.mean(held) < 0.8


def test_a_graph_that_misses_them_says_so_when_it_is_built_and_when_it_is_opened(tmp_path, caplog):
    engine, _ = make_pair(narrow_cone(4000), layout=NARROW, method="hnsw", rescore=16)
    assert engine.recall.worst.weights == {"topic": 0, "complexity": 1}
    assert engine.recall.worst.worst < 0.95
    (message,) = warnings(caplog)
    assert "complexity=1" in message and "'pq'" in message
    engine.save(tmp_path / "index")
    assert len(warnings(caplog)) == 1  # nothing was built anew
    again = FaissEngine.load(tmp_path / "index")
    assert warnings(caplog) == [message, message]
    assert again.recall == engine.recall


def test_a_good_index_is_built_and_opened_in_silence(saved, caplog):
    for folder in saved.values():
        FaissEngine.load(folder)
    make_pair(clustered())
    assert not warnings(caplog)


def test_copies_are_found_all_of_them():
    vectors = clustered()
    vectors[1000:2200] = vectors[1000]
    engine, exact = make_pair(vectors, rescore=50)
    (found,) = engine.search(vectors[1000:1001], k=10)
    assert len(found.documents) == 1200
    assert_same(engine, exact, vectors[1000:1001], k=10)


# Priors and metadata.


@pytest.mark.parametrize("size", [0.0, 0.1, 5.0])
@pytest.mark.parametrize("default", [0.5, -2.0])
def test_priors_count_as_in_an_exact_scan_however_large_they_are(pair, size, default):
    engine, exact = pair
    rng = np.random.default_rng(1)
    chosen = [f"d{n}" for n in rng.choice(COUNT, 200, replace=False)]
    priors = Priors(ids=[*chosen, "gone"], values=size * rng.random(201), default=default)
    queries = clustered(30, seed=9)
    assert_same(engine, exact, queries, k=10, priors=priors)
    assert_same(engine, exact, queries, k=10, priors=priors, where={"third": True})


def test_priors_that_grow_are_seen(saved, tmp_path):
    engine, exact = open_pair(saved, tmp_path, rescore=500)
    ids = ["d7"]
    query = clustered(1, seed=9)
    assert_same(engine, exact, query, k=1, priors=Priors(ids, np.array([100.0]), 0.0))
    ids.append("d8")
    priors = Priors(ids, np.array([100.0, 200.0]), 0.0)
    assert names(engine.search(query, k=1, priors=priors)) == [{"d8"}]
    engine.delete(["d0", "d8"])
    exact.delete(["d0", "d8"])
    assert_same(engine, exact, query, k=2, priors=priors)


def test_priors_of_almost_all_are_a_scan(pair):
    engine, exact = pair
    rng = np.random.default_rng(2)
    priors = Priors([f"d{n}" for n in range(1900)], rng.random(1900), 0.5)
    assert_same(engine, exact, clustered(5, seed=9), k=10, priors=priors)


# What changes after the index was built.


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_after_any_changes_it_finds_what_an_exact_scan_finds(saved, method, data):
    engine, exact = (
        FaissEngine.load(saved[method]),
        NumpyEngine(layout=LAYOUT, projection_digest=DIGEST),
    )
    exact.upsert(documents(), clustered())
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    for step in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["add", "replace", "delete", "both"]))
        size = data.draw(st.integers(1, 60))
        known = [document.id for document in exact.documents]
        some = [str(name) for name in rng.choice(known, size, replace=False)]
        if kind == "delete":
            assert engine.delete(some) == exact.delete(some) == size
            continue
        new = [f"new {step} {n}" for n in range(size)]
        chosen = {"add": new, "replace": some, "both": [*some, *new]}[kind]
        vectors = clustered(len(chosen), seed=int(rng.integers(1 << 30)))
        for each in (engine, exact):
            each.upsert([Record(id=name, text="changed") for name in chosen], vectors)
    assert not engine.exact
    queries = hardest(np.concatenate([exact.vectors[-3:], exact.vectors[:3], clustered(3, seed=4)]))
    assert_same(engine, exact, queries, k=10)


def test_a_document_just_added_is_found(saved):
    engine = FaissEngine.load(saved["pq"])
    vector = -clustered(1, seed=11)  # unlike all others
    assert names(engine.search(vector, k=1)) != [{"fresh"}]
    engine.upsert([Record(id="fresh", text="a text")], vector)
    assert names(engine.search(vector, k=1)) == [{"fresh"}]


def test_a_vector_that_was_replaced_is_no_longer_found(saved):
    engine = FaissEngine.load(saved["pq"])
    old = clustered()[5:6]
    assert names(engine.search(old, k=1)) == [{"d5"}]
    engine.upsert([Record(id="d5", text="another")], -old)
    assert names(engine.search(old, k=1)) != [{"d5"}]
    assert names(engine.search(-old, k=1)) == [{"d5"}]
    engine.delete(["d5"])
    assert names(engine.search(-old, k=1)) != [{"d5"}]


def test_where_all_that_faiss_knows_near_a_query_is_gone_the_rest_is_found(saved, tmp_path):
    engine, exact = open_pair(saved, tmp_path, rescore=100)
    query = clustered()[:1]
    nearest = best(exact.search(query, k=250), query, k=250)[0]
    for each in (engine, exact):
        each.delete(nearest)
    assert_same(engine, exact, query, k=10)


def test_a_refused_change_changes_nothing(saved):
    engine = FaissEngine.load(saved["pq"])
    with pytest.raises(EngineError):
        engine.upsert([Record(id="d5", text="a"), Record(id="d5", text="b")], clustered(2))
    assert names(engine.search(clustered()[5:6], k=1)) == [{"d5"}]


def test_the_index_is_built_anew_once_a_tenth_is_other(tmp_path):
    engine, _ = make_pair(clustered())
    first = engine.recall
    engine.upsert(documents(200, first=COUNT), clustered(200, seed=1))
    engine.save(tmp_path / "index")
    assert engine.recall is first
    engine.upsert(documents(100, first=COUNT + 200), clustered(100, seed=2))
    engine.save(tmp_path / "index")
    assert engine.recall is not first
    assert engine._settings()["indexed"] == COUNT + 300
    engine.delete([f"d{n}" for n in range(251)])
    assert engine._settings()["indexed"] == COUNT + 300
    engine.save(tmp_path / "index")
    assert engine._settings()["indexed"] == COUNT + 49
    engine.delete([f"d{n}" for n in range(251, 2000)])
    engine.save(tmp_path / "index")
    assert engine.exact


def test_a_save_of_a_few_changes_leaves_the_candidates_as_they_are_and_others_take_it_up(
    saved, tmp_path
):
    folder = shutil.copytree(saved["pq"], tmp_path / "index")
    before = file_of(folder, INDEX).stat().st_ino
    one, other = FaissEngine.load(folder), FaissEngine.load(folder)
    vector = -clustered(1, seed=11)  # unlike all others
    other.upsert([Record(id="mine", text="not saved")], vector)
    theirs = -clustered(2, seed=12)
    one.upsert([Record(id="fresh", text="a text"), Record(id="d5", text="b")], theirs)
    one.delete(["d7"])
    one.save()
    assert file_of(folder, INDEX).stat().st_ino == before
    assert other.refresh() and not other.refresh()
    assert names(other.search(theirs, k=1)) == [{"fresh"}, {"d5"}]
    assert names(other.search(vector, k=1)) == [{"mine"}]
    assert names(other.search(clustered()[7:8], k=1)) != [{"d7"}]
    opened = FaissEngine.load(folder)
    assert not opened.exact
    assert opened.documents == one.documents == other.documents[:-1]
    assert_same(opened, one, hardest(clustered(5, seed=3)), k=10)
    one.build()  # the counter-check
    one.save()
    assert file_of(folder, INDEX).stat().st_ino != before
    assert not other.refresh()  # it is taken up, and no document is another
    assert other._settings() == one._settings()
    assert names(other.search(vector, k=1)) == [{"mine"}]


@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_whatever_two_save_in_one_folder_both_find_what_an_exact_scan_finds(saved, data):
    with TemporaryDirectory() as place:
        folder = shutil.copytree(saved["pq"], Path(place) / "index")
        hands = [FaissEngine.load(folder) for _ in range(2)]
        for step in range(data.draw(st.integers(1, 6))):
            hand = hands[data.draw(st.integers(0, 1))]
            rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
            known = [document.id for document in hand.documents]
            size = data.draw(st.sampled_from([3, 40, 140]))  # a tenth is other after two of these
            some = [str(name) for name in rng.choice(known, size, replace=False)]
            if data.draw(st.booleans()):
                hand.delete(some[: size // 2])
            chosen = [*some[size // 3 :], *(f"new {step} {n}" for n in range(size // 2))]
            made = [Record(id=name, text=f"changed {step}") for name in chosen]
            hand.upsert(made, clustered(len(made), seed=step + 1))
            if data.draw(st.booleans()):
                hand.save()
            if data.draw(st.booleans()):
                hand.refresh()
        for hand in hands:
            hand.save()
        hands[0].refresh()
        exact = NumpyEngine(layout=LAYOUT, projection_digest=DIGEST)
        exact.upsert(hands[0].documents, hands[0].vectors)
        queries = hardest(np.concatenate([exact.vectors[-3:], clustered(3, seed=4)]))
        for hand in (*hands, FaissEngine.load(folder)):
            assert hand.documents == exact.documents
            np.testing.assert_array_equal(hand.vectors, exact.vectors)
            assert_same(hand, exact, queries, k=10)


def test_what_was_added_without_an_index_is_indexed_by_save(tmp_path):
    engine = create_engine(
        tmp_path / "index", layout=LAYOUT, projection_digest=DIGEST, engine="faiss"
    )
    engine.upsert(documents(), clustered())
    assert engine.exact
    engine.save()
    assert not engine.exact
    opened = open_engine(tmp_path / "index")
    assert isinstance(opened, FaissEngine) and not opened.exact


# What is written and read.


@pytest.mark.parametrize("method", METHODS)
def test_what_was_saved_is_what_is_opened(tmp_path, method):
    engine, _ = make_pair(clustered(), method=method, rescore=321)
    engine.upsert(documents(100, first=COUNT), clustered(100, seed=1))
    engine.upsert(documents(50, first=20), clustered(50, seed=2))
    engine.delete([f"d{n}" for n in range(100)])
    engine.save(tmp_path / "index")
    again = FaissEngine.load(tmp_path / "index")
    assert (again.method, again.rescore, again.recall) == (method, 321, engine.recall)
    assert not again.exact
    queries = hardest(clustered(10, seed=3))
    assert names(again.search(queries, k=10)) == names(engine.search(queries, k=10))
    # And once more, as what is opened can be changed and saved.
    again.delete(["d500"])
    again.save()
    engine.delete(["d500"])
    third = FaissEngine.load(tmp_path / "index")
    assert names(third.search(queries, k=10)) == names(engine.search(queries, k=10))


@pytest.mark.parametrize("method", METHODS)
def test_the_same_vectors_give_the_same_index(tmp_path, method, monkeypatch):
    """More vectors than it is trained on, by several threads."""
    monkeypatch.setattr(faiss_candidates, "_TRAINED", 1000)
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        for name in ("first", "second"):
            built = CompressedIndex.build(clustered(1100), layout=LAYOUT, method=method)
            built.write(tmp_path / name)
    finally:
        faiss.omp_set_num_threads(before)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def copy_of(folder: Path, target: Path) -> Path:
    return shutil.copytree(folder, target)


@pytest.mark.parametrize("method", METHODS)
def test_what_two_writers_save_is_all_found(saved, tmp_path, method):
    folder = copy_of(saved[method], tmp_path / "index")
    one, other = FaissEngine.load(folder), FaissEngine.load(folder)
    query = clustered(1, seed=5)
    best = [document.id for document in one.search(query, k=2)[0].documents]
    one.delete(best[:1])
    one.upsert([Record(id="one", text="a text")], query)
    one.save()
    other.delete(best[1:])
    other.upsert([Record(id="other", text="a text")], query)
    other.save()
    for engine in (other, FaissEngine.load(folder)):
        assert not engine.exact
        assert engine.count() == COUNT
        found = {document.id for document in engine.search(query, k=2)[0].documents}
        assert found == {"one", "other"}
        assert not engine.fetch(best).documents


def write_with_its_sum(folder: Path, content: bytes) -> None:
    """Another file that the manifest was written for."""
    file_of(folder, INDEX).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sums"][INDEX] = f"crc32:{zlib.crc32(content):08x}"
    (folder / "manifest.json").write_text(json.dumps(seal(manifest)))


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_file_is_refused(saved, tmp_path, method):
    folder = copy_of(saved[method], tmp_path / "index")
    content = bytearray(file_of(folder, INDEX).read_bytes())
    content[len(content) // 2] ^= 1
    file_of(folder, INDEX).write_bytes(content)
    with pytest.raises(IndexFolderError, match="damaged"):
        FaissEngine.load(folder)
    file_of(folder, INDEX).unlink()
    with pytest.raises(IndexFolderError, match="damaged"):
        FaissEngine.load(folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_file_that_faiss_cannot_read_is_refused(saved, tmp_path, method):
    folder = copy_of(saved[method], tmp_path / "index")
    content = file_of(folder, INDEX).read_bytes()
    cut = [content[: int(part * len(content))] for part in (0.0, 0.01, 0.5, 0.999)]
    for wrong in (*cut, b"no index at all " * 100):
        write_with_its_sum(folder, wrong)
        with pytest.raises(IndexFolderError, match="damaged"):
            FaissEngine.load(folder)
    write_with_its_sum(folder, content)
    assert not FaissEngine.load(folder).exact


def test_an_index_of_other_vectors_is_refused(saved, tmp_path):
    folder = copy_of(saved["pq"], tmp_path / "index")
    for index in (faiss.IndexIDMap(faiss.IndexFlatIP(8)), faiss.IndexFlatIP(LAYOUT.dim)):
        write_with_its_sum(folder, faiss.serialize_index(index).tobytes())
        with pytest.raises(IndexFolderError, match="other vectors"):
            FaissEngine.load(folder)
    whole = faiss.deserialize_index(
        np.frombuffer(file_of(saved["pq"], INDEX).read_bytes(), np.uint8)
    )
    for wrong in (COUNT, 0):  # out of range, and given twice
        rows = np.arange(COUNT)
        rows[1] = wrong
        faiss.copy_array_to_vector(rows, whole.id_map)
        write_with_its_sum(folder, faiss.serialize_index(whole).tobytes())
        with pytest.raises(IndexFolderError, match="other vectors"):
            FaissEngine.load(folder)


def test_an_index_that_was_rotated_otherwise_is_refused(saved, tmp_path):
    """As another version may do, whose codes would be searched with wrong queries."""
    folder = copy_of(saved["pq"], tmp_path / "index")
    whole = faiss.deserialize_index(
        np.frombuffer(file_of(saved["pq"], INDEX).read_bytes(), np.uint8)
    )
    turn = faiss.downcast_VectorTransform(faiss.downcast_index(whole.index).chain.at(0))
    rotation = faiss.vector_to_array(turn.A)
    rotation[-1 - LAYOUT.dim] = rotation[LAYOUT.dim - 1] = 0.5  # beside the blocks
    faiss.copy_array_to_vector(rotation, turn.A)
    write_with_its_sum(folder, faiss.serialize_index(whole).tobytes())
    with pytest.raises(IndexFolderError, match="other blocks, or by another version; build it"):
        FaissEngine.load(folder)


@pytest.mark.parametrize(
    "changed",
    [{"method": "ivf"}, {"rescore": 0}, {"rescore": "x"}, {"recall": {"k": 3}}, {"indexed": None}],
)
def test_settings_that_no_engine_wrote_are_refused(saved, tmp_path, changed):
    folder = copy_of(saved["pq"], tmp_path / "index")
    change_settings(folder, **changed)
    with pytest.raises(IndexFolderError, match="damaged"):
        FaissEngine.load(folder)


@pytest.mark.parametrize("method", METHODS)
def test_vectors_that_are_not_finite_are_not_indexed(tmp_path, method):
    vectors = clustered()
    vectors[1345, 3] = np.nan
    stored = Stored(
        documents=documents(),
        vectors=vectors,
        layout=LAYOUT,
        projection_digest=DIGEST,
        engine="faiss",
        settings={"method": method, "rescore": 500, "indexed": 0, "recall": None},
    )
    write_index(tmp_path / "index", stored)
    engine = FaissEngine.load(tmp_path / "index")
    with pytest.raises(IndexFolderError, match="NaN or infinity"):
        engine.build()
    assert engine.exact


def test_another_engines_folder_is_refused(tmp_path):
    exact = NumpyEngine(layout=LAYOUT, projection_digest=DIGEST)
    exact.save(tmp_path / "index")
    with pytest.raises(IndexFolderError, match="numpy"):
        FaissEngine.load(tmp_path / "index")


# What it takes.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "ivf"}, "pq, hnsw"),
        ({"method": None}, "pq, hnsw"),
        ({"rescore": 0}, "rescore"),
        ({"rescore": 2.5}, "rescore"),
        ({"dtype": "int8"}, "float32 or float16"),
    ],
)
def test_settings_that_cannot_be_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        FaissEngine(layout=LAYOUT, projection_digest=DIGEST, **settings)


def test_without_its_package_it_says_what_to_install(monkeypatch, saved):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(EngineError, match=r"pip install 'subspace-embeddings\[faiss\]'"):
        FaissEngine(layout=LAYOUT, projection_digest=DIGEST)
    with pytest.raises(EngineError, match="pip install"):
        FaissEngine.load(saved["pq"])


@pytest.mark.parametrize("widths", [{"a": 1}, {"a": 2, "b": 3}, {"a": 130, "b": 1}])
def test_blocks_of_any_width_can_be_indexed(widths):
    layout = BlockLayout.from_widths(widths)
    vectors = clustered(layout=layout)
    engine, exact = make_pair(vectors, layout=layout)
    queries = hardest(clustered(10, layout=layout, seed=1), layout=layout)
    for each in (engine, exact):
        found = each.search(queries, k=1)
        scores = [max(f.vectors @ query) for f, query in zip(found, queries, strict=True)]
        np.testing.assert_allclose(scores, (queries @ vectors.T).max(axis=1), atol=1e-3)
