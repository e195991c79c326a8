"""Keywords: BM25 as a slow loop has it, one more part of a score, equal to the bit at weight 0."""

import json
import math
import re
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_world import LAYOUT, OTHER, QUERY, RECORDS, TEXTS, ids, make_model

from subspace.cli.main import main
from subspace.data.records import Record
from subspace.errors import ConfigError, QueryError, WeightsError
from subspace.retrieval import Index, Like, UsageLog, WeightBandit, Weights, explain
from subspace.retrieval.keywords import KEYWORDS

STOPWORDS = re.compile(
    r"(?:an?|and|are|as|at|be|but|by|for|if|in|into|is|it|not?|of|on|or|such|that|the|their|then|"
    r"there|these|they|this|to|was|will|with)"
)
SPREADS = {"topic": 0.1, "style": 0.4, "complexity": 0.3, "specificity": 0.05, "residual": 0.2}


def words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if not STOPWORDS.fullmatch(word)]


def slow_bm25(query: str, texts: dict[str, str]) -> dict[str, float]:
    """BM25 from its definition, and in standard deviations."""
    counts = {name: Counter(words(text)) for name, text in texts.items()}
    mean = sum(sum(count.values()) for count in counts.values()) / len(texts)
    scores = dict.fromkeys(texts, 0.0)
    for word in words(query):
        having = sum(word in count for count in counts.values())
        rarity = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for name, count in counts.items():
            length = sum(count.values()) / mean
            scores[name] += rarity * count[word] / (count[word] + 1.5 * (0.25 + 0.75 * length))
    values = np.array(list(scores.values()))
    unit = max(values.std(), values.max() / 8) or 1.0
    return {name: value / unit for name, value in scores.items()}


@pytest.fixture(scope="module")
def spread_model(tiny_qwen):
    return replace(make_model(tiny_qwen), score_spreads=SPREADS)


@pytest.fixture(scope="module")
def index(spread_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keywords")
    bandit = WeightBandit(folder / "arms.db", seed=0)
    UsageLog.open(folder / "usage.db", clock="steps").close()
    with Index.create(
        folder / "index", spread_model, RECORDS, usage=folder / "usage.db", bandit=bandit
    ) as index:
        index.use({"bread": 1.0, "court": 0.0})
        yield index
    bandit.close()


def check(index, query, *, texts=TEXTS, said=None, share=1.0, **options) -> None:
    """All hits with keywords have the parts of those without, and the slow loop's part."""
    options["k"] = len(texts)
    plain = {hit.id: hit for hit in index.search(query, **options)}
    found = index.search(query, keywords=0.7, **options)
    unit = index.model.score_spreads["topic"]
    wanted = slow_bm25(said or query, texts)
    assert {hit.id for hit in found} == plain.keys()
    for hit in found:
        own = hit.parts[KEYWORDS]["relevance"]
        assert own == pytest.approx(0.7 * unit * share * wanted[hit.id], abs=1e-5)
        parts = {name: part for name, part in hit.parts.items() if name != KEYWORDS}
        assert parts == plain[hit.id].parts
        assert hit.score == pytest.approx(plain[hit.id].score + own, abs=1e-12)
        assert hit.by_block()[KEYWORDS] == own
    assert [hit.score for hit in found] == sorted((h.score for h in found), reverse=True)
    assert found.keywords == 0.7


@pytest.mark.parametrize("query", [QUERY, OTHER, "bread", "the of", "zzz", "bake bake LOAF!"])
def test_keywords_add_what_a_slow_loop_computes(index, query):
    check(index, query, weights="topic=1,style=0.5")


def test_keywords_count_beside_recency_and_importance_by_their_share(index):
    for scope in ("block", "item"):
        check(index, QUERY, scope=scope, weights="topic=1", preset="balanced", share=0.34)
        check(index, QUERY, scope=scope, weights="topic=1,riv=0.1,0.2,0.7", share=0.7)
    check(index, QUERY, toward="complexity=1", weights="topic=1")


def test_what_only_keywords_find_is_found(tmp_path, spread_model):
    """Words that no block sees: the embedding of a text is that of another text."""
    texts = {f"n{n}": f"number {n} of many" for n in range(60)}
    records = [Record(id=name, text=text) for name, text in texts.items()]
    vectors = spread_model.open_encoder().encode(list(TEXTS.values()))
    vectors = vectors[np.arange(60) % len(vectors)]
    with Index.create(tmp_path / "index", spread_model, records, vectors=vectors) as index:
        plain = ids(index.search("number 31", k=60))
        place = plain.index("n31")
        for k in (1, 3):
            assert index.search("number 31", keywords=2, k=k)[0].id == "n31"
            assert index.search("number 31", keywords=2, k=k, candidates=5)[0].id == "n31"
        assert "n31" not in plain[:place]
        assert place > 0
        low = index.search("number 31", keywords=1e-6, k=60)
        assert ids(low)[0] == plain[0]


@given(
    query=st.sampled_from([QUERY, OTHER, Like("cake"), {"topic": QUERY, "style": Like("court")}]),
    weights=st.sampled_from([None, "topic=1,style=0.5", "topic=1,riv=0.2,0.2,0.6"]),
    scope=st.sampled_from(["block", "item"]),
    candidates=st.sampled_from([None, 4]),
    toward=st.sampled_from([None, "complexity=-1"]),
    k=st.integers(1, 12),
)
@settings(max_examples=25)
def test_a_weight_of_zero_changes_nothing_to_the_bit(
    index, query, weights, scope, candidates, toward, k
):
    options = {"weights": weights, "scope": scope, "candidates": candidates, "k": k}
    plain = index.search(query, toward=toward, **options)
    zero = index.search(query, toward=toward, keywords=0.0, unlike=[], unlike_weight=3, **options)
    assert zero.hits == plain.hits
    assert all(hit.parts.keys() == set(LAYOUT) for hit in zero)


def test_words_come_from_the_item_or_from_the_blocks_that_search_is_by(tmp_path, spread_model):
    default = {name: float(name == "topic") for name in LAYOUT}
    model = replace(spread_model, default_weights=default)
    with Index.create(tmp_path / "index", model, RECORDS) as index:
        others = {name: text for name, text in TEXTS.items() if name != "cake"}
        found = index.search(Like("cake"), keywords=1, k=11)
        wanted = slow_bm25(TEXTS["cake"], TEXTS)
        assert set(ids(found)) == set(others)
        for hit in found:
            part = hit.parts[KEYWORDS]["relevance"]
            assert part == pytest.approx(wanted[hit.id] * unit_of(index), abs=1e-5)
        composed = {"style": OTHER, "topic": QUERY}
        check(index, composed, said=QUERY)
        with pytest.raises(QueryError, match="words of a query's topic"):
            index.search({"style": OTHER}, keywords=1)


def unit_of(index) -> float:
    return index.model.score_spreads["topic"]


def test_words_follow_every_change_also_of_others(tmp_path, spread_model):
    texts = dict(TEXTS)
    with Index.create(tmp_path / "index", spread_model, RECORDS) as index:
        index.save()
        check(index, QUERY, texts=texts)
        texts["new"] = "bake the bread of the baker, and the cake"
        index.add([Record(id="new", text=texts["new"])])
        check(index, QUERY, texts=texts)
        texts["soup"] = "a loaf is no soup"
        index.update([Record(id="soup", text=texts["soup"])])
        check(index, QUERY, texts=texts)
        index.delete(["bread"])
        del texts["bread"]
        check(index, QUERY, texts=texts)
        index.save()
        with Index.open(tmp_path / "index", spread_model) as other:
            other.add([Record(id="late", text="one more loaf of rye bread")])
        texts["late"] = "one more loaf of rye bread"
        assert index.refresh()
        check(index, QUERY, texts=texts)
        index.delete(list(texts))
        assert not index.search(QUERY, keywords=1)


def test_an_index_of_common_words_alone_has_no_keywords(tmp_path, spread_model):
    with Index.create(tmp_path / "index", spread_model, [Record(id="a", text="of the")]) as index:
        (hit,) = index.search("of bread", keywords=1)
        assert hit.parts[KEYWORDS]["relevance"] == 0


def test_the_best_text_has_eight_deviations_at_most(tmp_path, spread_model):
    texts = {f"n{n}": f"text {n}" for n in range(400)}
    vectors = spread_model.open_encoder().encode(["one"]).repeat(400, axis=0)
    records = [Record(id=name, text=text) for name, text in texts.items()]
    with Index.create(tmp_path / "index", spread_model, records, vectors=vectors) as index:
        check(index, "the text 217", texts=texts)
        hit = index.search("217", keywords=1)[0]
        assert hit.id == "n217"
        part = hit.parts[KEYWORDS]["relevance"]
        assert part == pytest.approx(8 * unit_of(index))


def test_faiss_finds_the_same(tmp_path, spread_model):
    rng = np.random.default_rng(0)
    names = [f"n{n}" for n in range(2000)]
    raw = rng.normal(size=(2000, spread_model.projection.input_dim)).astype(np.float32)
    records = [Record(id=name, text=f"{name} {n % 50}") for n, name in enumerate(names)]
    found = []
    for engine in ("numpy", "faiss"):
        settings_ = {"rescore": 100} if engine == "faiss" else None
        with Index.create(
            tmp_path / engine, spread_model, records, vectors=raw, engine=engine, settings=settings_
        ) as index:
            index.save()
            assert index.blocks.engine.exact == (engine == "numpy")
            found.append(index.search("17 n17", weights="topic=1", keywords=0.5, k=20).hits)
    assert found[0] == found[1]


def test_the_bandit_orders_hits_with_their_keywords(index):
    found = index.search(QUERY, preset="auto", keywords=5, k=5)
    assert all(KEYWORDS in hit.parts for hit in found)
    share = found.weights.relevance_share
    best = slow_bm25(QUERY, TEXTS)
    for hit in found:
        wanted = 5 * share * best[hit.id] * unit_of(index)
        assert hit.parts[KEYWORDS]["relevance"] == pytest.approx(wanted, abs=1e-5)
    index.feedback(found.query_id, hits={found[0].id: 1.0})


def test_an_explanation_names_keywords_and_what_they_would_take(index):
    found = index.search(QUERY, weights="topic=1,style=1", keywords=0.4)
    for hit in found[1:]:
        told = explain(found, hit.id)
        assert sum(told.by_block.values()) == pytest.approx(hit.score)
        for way in told.passing:
            if way.what == KEYWORDS:
                more = 1.001 if way.factor > 1 else 0.999
                options = {"weights": "topic=1,style=1", "keywords": 0.4 * way.factor * more}
                order = ids(index.search(QUERY, k=12, **options))
                assert order.index(hit.id) < order.index(told.above)
    assert "keywords +" in explain(found, "bread").text


def test_what_an_explanation_says_of_keywords_beside_history_holds(index):
    share = {"recency": 0.3, "importance": 0.2, "relevance": 0.5}

    def table(what="", factor=1.0) -> Weights:
        """Weights of which those of one block or part are multiplied."""
        blocks = {"topic": 1.0, "style": 0.5}
        rows = {
            part: {
                block: mix * weight * (factor if what in (part, block) else 1.0)
                for block, weight in blocks.items()
            }
            for part, mix in share.items()
        }
        return Weights.from_mapping(rows, layout=LAYOUT)

    for query in (QUERY, OTHER, "court home team bread"):
        found = index.search(query, weights=table(), keywords=0.6, scope="item", k=12)
        for hit in found[1:]:
            told = explain(found, hit.id)
            for way in told.passing:
                factor = way.factor * (1.001 if way.factor > 1 else 0.999)
                order = ids(
                    index.search(
                        query,
                        weights=table(way.what, factor),
                        keywords=0.6 * (factor if way.what == KEYWORDS else 1),
                        scope="item",
                        k=12,
                    )
                )
                assert order.index(hit.id) < order.index(told.above), way


def test_candidates_need_relevance_also_with_keywords(index):
    """Keywords have relevance's share of the weights, so they choose none without it."""
    with pytest.raises(WeightsError, match="candidates are the best by relevance"):
        index.search(QUERY, weights="topic=1,riv=0.5,0.5,0", keywords=1, candidates=3)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "much", True, 1e-40])
def test_a_wrong_weight_is_refused(index, value):
    with pytest.raises(WeightsError, match="of keywords must be"):
        index.search(QUERY, keywords=value)


def test_where_there_is_no_text_or_no_package_it_says_so(index, tmp_path, monkeypatch):
    vector = index.embed([QUERY])[0]
    with pytest.raises(ConfigError, match=r"Index\.search"):
        index.blocks.search(vector, keywords=1)
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with (
        Index.create(tmp_path / "index", index.model, RECORDS) as other,
        pytest.raises(ConfigError, match=r"bm25s: pip install .*keywords"),
    ):
        other.search(QUERY, keywords=1)


def test_the_command_prints_keywords_and_negatives(tmp_path, capsys, spread_model):
    spread_model.save(tmp_path / "model")
    with Index.create(tmp_path / "index", spread_model, RECORDS):
        pass
    command = [
        "search",
        "--checkpoint",
        str(tmp_path / "model"),
        "--index",
        str(tmp_path / "index"),
    ]
    main([*command, "--query", QUERY, "--keywords", "0.3", "--explain", "-k", "3"])
    out = capsys.readouterr().out
    assert " keywords=0.3\n" in out
    assert out.count(" keywords +0.") >= 3
    main([*command, "--query", QUERY, "--unlike", "@cake", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["keywords"] == 0
    assert "cake" not in [hit["id"] for hit in found["hits"]]
    composed = [*command, "--compose", f"topic={QUERY}", "--unlike-block", "style=@concert"]
    main([*composed, "--unlike-weight", "1", "--json"])
    found = json.loads(capsys.readouterr().out)
    weights = found["weights"]["relevance"]
    assert weights["style"] == weights["topic"] > 0
    assert main([*command, "--query", QUERY, "--unlike-weight", "1"]) != 0
    assert "--unlike-weight needs" in capsys.readouterr().err
