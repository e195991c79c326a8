"""Every protocol is what its name says, is measured once, and bad input stops before the work."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from subspace.bench import text_units as cut
from subspace.bench.protocol import LEVELS, Setting
from subspace.bench.protocol_results import (
    MEASURES,
    Cost,
    Result,
    adjust,
    recall_one,
    score_queries,
)
from subspace.bench.protocol_run import make_key, run_protocols
from subspace.bench.protocol_tables import protocols_markdown, write_protocols
from subspace.bench.protocols import choose_protocols, list_protocols
from subspace.bench.readings import StoredSource
from subspace.bench.vector_protocols import left_out
from subspace.blocks import BlockLayout, unit
from subspace.cli import main
from subspace.data.retrieval_sets import Document, RetrievalSet
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.model import Checkpoint
from subspace.model.projection import Projection, QuerySide

LAYOUT = BlockLayout.from_widths({"topic": 20, "style": 8, "residual": 30})
WEIGHTS = {"topic": 0.7, "style": 0.3, "residual": 0.0}
SPEC = EncoderSpec(model="minilm", layers=(2, 6), device="cpu")
RAW = slice(384, 768)
TEXTS = {
    "Cats": "A cat sleeps. It hunts mice at night. Owners feed it twice a day. It purrs.",
    "Trains": "A train leaves at noon. The driver checks the brakes. Tickets are sold on board.",
    "Bread": "Flour and water are mixed. The dough rises.\n\nIt is baked. Then it cools.",
    "": "...",
}


def make_set() -> RetrievalSet:
    documents = tuple(
        Document(id=f"d{n}", text=f"{title}. {text}" if title else text, title=title)
        for n, (title, text) in enumerate(TEXTS.items())
    )
    queries = {"q0": "What do cats hunt?", "q1": "When does the dough rise?", "q2": "brakes"}
    relevance = {"q0": {"d0": 1.0}, "q1": {"d2": 2.0, "d1": 0.0}, "q2": {"d1": 1.0}}
    return RetrievalSet(documents=documents, queries=queries, relevance=relevance)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    rng = np.random.default_rng(0)
    weight, other = rng.normal(size=(2, LAYOUT.dim, 768)).astype(np.float32)
    projection = Projection(
        weight=weight,
        mean=np.zeros(768, np.float32),
        layout=LAYOUT,
        offset=np.zeros(LAYOUT.dim, np.float32),
        query=QuerySide(weight=other, offset=np.zeros(LAYOUT.dim, np.float32)),
    )
    fingerprint = Encoder(SPEC).fingerprint
    return Checkpoint(projection=projection, encoder_model="minilm", fingerprint=fingerprint)


@pytest.fixture(scope="module")
def setting(checkpoint) -> Setting:
    return Setting(
        projection=checkpoint.projection,
        raw=RAW,
        documents=len(TEXTS),
        weights=WEIGHTS,
        levels={"document": 0.5, "paragraph": 0.3, "sentence": 0.2},
    )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> CachedEncoder:
    return CachedEncoder.open(SPEC, root=tmp_path_factory.mktemp("store"))


def scores_of(name: str, setting: Setting, encoder: CachedEncoder) -> np.ndarray:
    protocol, source, data = list_protocols(setting)[name], StoredSource(encoder), make_set()
    corpus = source.encode([document.text for document in data.documents])
    queries, items = [], []
    for level in protocol.levels:
        view = level.view(corpus)
        for found, bags, map_vectors in (
            (queries, level.reading.ask(list(data.queries.values()), source), view.queries),
            (items, level.reading.read(data.documents, source), view.documents),
        ):
            found.append(type(bags)(map_vectors(bags.vectors), bags.counts))
    return protocol.score(queries, items)


def raw(encoder: CachedEncoder, text: str, kind: str = "document") -> np.ndarray:
    return unit(encoder.encode([text], kind=kind)[0, RAW])


def best_chunk(encoder, query: str, pieces: list[str], *, best: int = 1) -> float:
    asked = raw(encoder, query, "query")
    cosines = sorted((float(asked @ raw(encoder, piece)) for piece in pieces), reverse=True)
    return sum(cosines[:best]) / len(cosines[:best])


def hierarchy(encoder, query: str, document: Document) -> float:
    total = 0.0
    for weight, units in ((0.5, cut.whole), (0.3, cut.paragraphs), (0.2, cut.sentences)):
        total += weight * best_chunk(encoder, query, units(document))
    return total


SLOW = {
    "single-vector": lambda e, q, d: best_chunk(e, q, [d.text]),
    "single-title": lambda e, q, d: best_chunk(e, q, cut.title(d)),
    "chunk-sentences": lambda e, q, d: best_chunk(e, q, cut.sentences(d)),
    "chunk-sentences-best-3": lambda e, q, d: best_chunk(e, q, cut.sentences(d), best=3),
    "chunk-paragraphs": lambda e, q, d: best_chunk(e, q, cut.paragraphs(d)),
    "chunk-windows-32": lambda e, q, d: best_chunk(e, q, cut.windows(d, words=32)),
    "hierarchical": hierarchy,
}


@pytest.mark.parametrize("name", SLOW)
def test_a_protocol_that_cuts_texts_is_its_loop(name, setting, encoder):
    data = make_set()
    found = scores_of(name, setting, encoder)
    for row, query in enumerate(data.queries.values()):
        for column, document in enumerate(data.documents):
            wanted = SLOW[name](encoder, query, document)
            assert found[row, column] == pytest.approx(wanted, abs=1e-5)


def block_cosine(projection, encoder, query, piece, *, block, width=None) -> float:
    where = LAYOUT.slice(block)
    stop = where.start + (width or LAYOUT.to_widths()[block])
    asked = projection.queries(encoder.encode([query], kind="query"))[0, where.start : stop]
    kept = projection(encoder.encode([piece]))[0, where.start : stop]
    return float(unit(asked) @ unit(kept))


def chunked(names: tuple[str, ...]):
    def score(cosine, document: Document) -> float:
        total = 0.0
        for block, weight in WEIGHTS.items():
            pieces = cut.sentences(document) if block in names else [document.text]
            total += weight * max(cosine(piece, block=block) for piece in pieces)
        return total

    return score


FACTORED = {
    "factored-only-style": lambda cosine, d: cosine(d.text, block="style"),
    "factored-equal": lambda cosine, d: sum(cosine(d.text, block=b) for b in WEIGHTS) / 3,
    "factored-weights": chunked(()),
    "factored-quarter": lambda cosine, d: (
        0.7 * cosine(d.text, block="topic", width=5) + 0.3 * cosine(d.text, block="style", width=2)
    ),
    "factored-chunked-topic": chunked(("topic",)),
    "factored-chunked-all": chunked(LAYOUT.names),
}


@pytest.mark.parametrize("name", FACTORED)
def test_a_factored_protocol_is_its_loop_and_queries_have_their_own_matrix(name, setting, encoder):
    data, found = make_set(), scores_of(name, setting, encoder)
    for row, query in enumerate(data.queries.values()):
        for column, document in enumerate(data.documents):

            def cosine(piece, **block):
                return block_cosine(setting.projection, encoder, query, piece, **block)  # noqa: B023

            assert found[row, column] == pytest.approx(FACTORED[name](cosine, document), abs=1e-5)


def test_late_interaction_sums_over_the_querys_tokens(setting, encoder):
    data, found = make_set(), scores_of("late-interaction-all", setting, encoder)
    for row, query in enumerate(data.queries.values()):
        asked = encoder.encoder.encode_tokens([query], kind="query")[0]
        for column, document in enumerate(data.documents):
            kept = encoder.encoder.encode_tokens([document.text])[0]
            wanted = sum(max(float(a @ b) for b in kept) for a in asked)
            assert found[row, column] == pytest.approx(wanted, abs=1e-4)


def test_a_block_that_does_not_count_has_no_protocol_of_its_best_sentence(setting):
    names = list(list_protocols(setting))
    assert names[0] == "single-vector"
    assert {"factored-chunked-topic", "factored-chunked-style"} <= set(names)
    assert "factored-chunked-residual" not in names


def test_reductions_go_up_to_what_there_is(setting):
    names = set(list_protocols(setting))
    assert {"random-256", "truncate-256", "learned-32"} <= names
    # Four documents have no 32 components, blocks of 58 dimensions no 64, the embedding no 512.
    assert not names & {"pca-32", "learned-64", "random-512"}
    chosen = choose_protocols("pca-3, truncate-384,pca-3", setting=setting)
    assert [protocol.name for protocol in chosen] == ["single-vector", "pca-3", "truncate-384"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "chunk-lines",
            "no protocol 'chunk-lines'; the families are single, chunks, .*did you mean",
        ),
        ("truncate-385", "truncate-385: the raw embedding has 384 dimensions; give 1 to 384"),
        ("random-0", "give 1 to 384"),
        ("pca-5", "384 dimensions, and 4 documents are there .*; give 1 to 4"),
        ("learned-2", "3 blocks of 58 dimensions in all; give 3 to 58"),
        ("pca-x", "no protocol 'pca-x'"),
        ("chunks,", "no protocol ''; the families are"),
    ],
)
def test_what_cannot_be_is_refused(names, message, setting):
    with pytest.raises(ConfigError, match=message):
        choose_protocols(names, setting=setting)


def test_chosen_weights_must_be_given(setting, checkpoint):
    plain = Setting(projection=checkpoint.projection, raw=RAW, documents=4)
    assert "factored-weights" not in list_protocols(plain)
    with pytest.raises(ConfigError, match="factored-weights needs --weights"):
        choose_protocols("factored-weights", setting=plain)
    assert sum(plain.levels.values()) == pytest.approx(1)
    assert set(plain.levels) == set(LEVELS)


class Counted(StoredSource):
    """The store, and how many texts were asked of it."""

    asked = 0

    def encode(self, texts, **kind):
        self.asked += len(texts)
        return super().encode(texts, **kind)


def bench(names, data, *, setting, encoder, checkpoint, folder):
    source = Counted(encoder)
    found = run_protocols(
        choose_protocols(names, setting=setting),
        data=data,
        source=source,
        fresh=encoder.encoder,
        parts=folder / "parts",
        key=make_key(data, checkpoint),
    )
    return found, source.asked


def test_an_interrupted_bench_goes_on_and_a_stale_part_is_measured_again(
    setting, encoder, checkpoint, tmp_path
):
    rest = {"encoder": encoder, "checkpoint": checkpoint, "folder": tmp_path}
    data, parts = make_set(), tmp_path / "parts"
    first, asked = bench("pca-2", data, setting=setting, **rest)
    assert asked > 0
    again, asked = bench("pca-2", data, setting=setting, **rest)
    assert asked == 0
    assert [r.to_json() for r in again.results] == [r.to_json() for r in first.results]

    (parts / "pca-2.json").write_text((parts / "pca-2.json").read_text()[:50])
    damaged, asked = bench("pca-2,factored-weights", data, setting=setting, **rest)
    assert asked > 0
    assert damaged.results[1].mean("mrr") == first.results[1].mean("mrr")

    other = replace(setting, weights={"topic": 1.0, "style": 0.0, "residual": 0.0})
    before = {path.name: path.read_bytes() for path in parts.iterdir()}
    bench("pca-2,factored-weights", data, setting=other, **rest)
    after = {path.name: path.read_bytes() for path in parts.iterdir()}
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["factored-weights.json"]

    relevance = {**data.relevance, "q0": {"d1": 1.0}}
    moved, asked = bench(
        "single-vector", replace(data, relevance=relevance), setting=setting, **rest
    )
    assert asked > 0
    assert moved.results[0].mean("mrr") < first.results[0].mean("mrr")


def test_bytes_are_those_of_the_vectors_and_the_single_vector_costs_one(
    setting, encoder, checkpoint, tmp_path
):
    rest = {"encoder": encoder, "checkpoint": checkpoint, "folder": tmp_path}
    found, _ = bench("hierarchical,pca-2", make_set(), setting=setting, **rest)
    single, hierarchical, pca = (result.cost for result in found.results)
    assert single == Cost(bytes=384 * 4, vectors=1, encode=1, query=1)
    units = sum(
        len(units(document))
        for units in (cut.whole, cut.paragraphs, cut.sentences)
        for document in make_set().documents
    )
    assert hierarchical.vectors == units / 4
    assert hierarchical.bytes == 384 * units
    assert hierarchical.encode > 1
    assert (pca.bytes, pca.encode) == (8, 1)

    write_protocols(found, folder=tmp_path)
    written = json.loads((tmp_path / "protocols.json").read_text())
    assert [row["name"] for row in written["protocols"]] == [r.name for r in found.results]
    assert (tmp_path / "protocols.png").read_bytes().startswith(b"\x89PNG")
    assert "| pca-2 | principal components, 2 dimensions |" in protocols_markdown(found)


def test_queries_are_asked_for(setting, encoder, checkpoint, tmp_path):
    rest = {"encoder": encoder, "checkpoint": checkpoint, "folder": tmp_path}
    data = make_set()
    unjudged = replace(data, queries={"q9": "?a"}, relevance={})
    with pytest.raises(ConfigError, match="query 'q9' has no relevant document"):
        bench("single", unjudged, setting=setting, **rest)
    empty = replace(data, queries={}, relevance={})
    with pytest.raises(ConfigError, match="has no queries"):
        bench("single", empty, setting=setting, **rest)
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_recall_is_its_mean_over_the_orders_of_tied_documents(k):
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    relevant = np.array([False, True, False, True, True])
    shares = []
    for order in itertools.permutations(range(5)):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            shares.append(sum(relevant[n] for n in order[:k]) / 3)
    assert recall_one(scores, relevant=relevant, k=k) == pytest.approx(np.mean(shares))


def make_result(ndcg: np.ndarray) -> Result:
    scores = dict.fromkeys(MEASURES, ndcg)
    return Result(name="a", family="single", about="", scores=scores, cost=Cost(4, 1, 1, 1))


def test_the_p_value_is_the_share_of_sign_flips_that_go_as_far():
    difference = np.array([0.3, 0.1, -0.05, 0.2, 0.4, 0.25])
    one, other = make_result(0.5 + difference), make_result(np.full(6, 0.5))
    flips = [abs(np.mean(difference * s)) for s in itertools.product((1, -1), repeat=6)]
    wanted = np.mean([flip >= abs(difference.mean()) - 1e-12 for flip in flips])
    assert one.p_value(other) == pytest.approx(wanted)
    assert one.p_value(one) == 1
    low, high = one.interval("mrr")
    assert low < one.mean("mrr") < high
    assert other.interval("mrr") == (0.5, 0.5)


def test_p_values_are_adjusted_for_their_number():
    np.testing.assert_allclose(adjust([0.01, 0.02, 0.5]), [0.03, 0.03, 0.5])
    assert len(adjust([])) == 0


def test_measures_of_a_perfect_and_a_reversed_ranking():
    scores, relevant = np.arange(200.0)[None], np.zeros((1, 200), dtype=bool)
    relevant[0, -1] = True
    assert all(values == [1] for values in score_queries(scores, relevant=relevant).values())
    worst = score_queries(-scores, relevant=relevant)
    assert worst["recall@100"] == worst["ndcg@10"] == [0]
    assert worst["mrr"] == [1 / 200]


@pytest.fixture
def command(checkpoint, tmp_path):
    """The command line on a folder of the small set."""
    checkpoint.save(tmp_path / "checkpoint")
    (tmp_path / "data").mkdir()
    data = make_set()
    lines = [
        {"_id": d.id, "title": d.title, "text": d.text.removeprefix(f"{d.title}. ")}
        for d in data.documents
    ]
    (tmp_path / "data" / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"_id": name, "text": text} for name, text in data.queries.items()]
    (tmp_path / "data" / "queries.jsonl").write_text("\n".join(map(json.dumps, lines)))
    judged = [f"{q}\t{d}\t{g}" for q, found in data.relevance.items() for d, g in found.items()]
    (tmp_path / "data" / "qrels.tsv").write_text("\n".join(judged))
    paths = {"data": "data", "checkpoint": "checkpoint", "store": "store", "output": "out"}
    given = [part for k, v in paths.items() for part in (f"--{k}", str(tmp_path / v))]
    return lambda *more: main(["bench", "protocols", *given, *more])


def test_the_command_writes_what_it_prints(command, tmp_path, capsys):
    chosen = "late-interaction-pool-8,factored-chunked-topic"
    assert not command("--protocols", chosen, "--weights", "topic=1", "--until", " Then")
    page = (tmp_path / "out" / "protocols.md").read_text()
    assert capsys.readouterr().out.startswith(page)
    assert "factored-chunked-topic" in page
    assert (tmp_path / "out" / "parts" / "factored-chunked-topic.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "mood=1"), "--weights: no block 'mood'; the blocks are topic, style"),
        (("--weights", "topic=1,riv=1,0,0"), "--weights: there is no history here"),
        (("--levels", "line=1"), "--levels: no block 'line'; the blocks are document, paragraph"),
        (("--protocols", "magic"), "no protocol 'magic'"),
    ],
)
def test_wrong_settings_are_said_and_nothing_is_measured(command, arguments, message, capsys):
    assert command(*arguments) == 2
    assert message in capsys.readouterr().err


def test_an_empty_document_is_named(command, tmp_path, capsys):
    path = tmp_path / "data" / "corpus.jsonl"
    path.write_text(path.read_text() + '\n{"_id": "d9", "text": " "}')
    assert command("--protocols", "single") == 2
    assert "corpus.jsonl:5: 'text' must be a text that is not empty" in capsys.readouterr().err


def test_one_query_has_an_interval_and_proves_nothing():
    one, other = make_result(np.array([0.5])), make_result(np.array([0.7]))
    assert one.p_value(other) == 1
    assert one.interval("ndcg@10") == (0.5, 0.5)


def test_a_reduction_without_its_size_and_a_near_miss_are_told_what_to_write(setting):
    with pytest.raises(ConfigError, match=r"pca needs a number of dimensions, such as pca-128"):
        choose_protocols("pca", setting=setting)
    with pytest.raises(ConfigError, match=r"did you mean .*chunk-sentences"):
        choose_protocols("chunk-sentence", setting=setting)


def test_sizes_that_there_are_too_few_documents_for_are_named(setting):
    assert left_out(setting) == [f"pca-{k}" for k in (32, 64, 128, 256) if k <= setting.dim]
    assert left_out(replace(setting, documents=10_000)) == []
