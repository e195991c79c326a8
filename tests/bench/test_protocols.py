"""Every protocol scores what a loop over its definition scores; bad names are refused."""

from dataclasses import replace

import numpy as np
import pytest
from protocol_world import LAYOUT, RAW, SCALES, WEIGHTS, make_set

from subspace.bench import text_units as cut
from subspace.bench.protocol import LEVELS, Setting
from subspace.bench.protocols import choose_protocols, list_protocols
from subspace.bench.readings import StoredVectors
from subspace.bench.vector_protocols import left_out
from subspace.blocks import unit
from subspace.data.records import Record
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.retrieval import Index


def scores_of(name: str, setting: Setting, encoder: CachedEncoder) -> np.ndarray:
    protocol, source, data = list_protocols(setting)[name], StoredVectors(encoder), make_set()
    corpus = source.encode([document.text for document in data.documents])
    queries, items = [], []
    for level in protocol.levels:
        view = level.view(corpus)
        for found, encoded, map_vectors in (
            (queries, level.reading.ask(list(data.queries.values()), source), view.queries),
            (items, level.reading.read(data.documents, source), view.documents),
        ):
            found.append(replace(encoded, vectors=map_vectors(encoded.vectors)))
    return protocol.score(queries, items)


def raw(encoder: CachedEncoder, text: str, kind: str = "document") -> np.ndarray:
    return unit(encoder.encode([text], kind=kind)[0, RAW])


def best_chunk(encoder, query: str, pieces: list[str], *, best: int = 1) -> float:
    asked = raw(encoder, query, "query")
    cosines = sorted((float(asked @ raw(encoder, piece)) for piece in pieces), reverse=True)
    return sum(cosines[:best]) / len(cosines[:best])


def hierarchy(encoder, query: str, document: Record) -> float:
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
    def score(cosine, document: Record) -> float:
        total = 0.0
        for block, weight in WEIGHTS.items():
            pieces = cut.sentences(document) if block in names else [document.text]
            best = max(cosine(piece, block=block) for piece in pieces)
            total += weight * SCALES[block] * best
        return total

    return score


FACTORED = {
    "factored-only-style": lambda cosine, d: cosine(d.text, block="style"),
    "factored-equal": lambda cosine, d: (
        sum(SCALES[b] * cosine(d.text, block=b) for b in WEIGHTS) / 3
    ),
    "factored-weights": chunked(()),
    "factored-quarter": lambda cosine, d: (
        0.7 * cosine(d.text, block="topic", width=5)
        + 0.3 * SCALES["style"] * cosine(d.text, block="style", width=2)
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
                return block_cosine(setting.model.projection, encoder, query, piece, **block)  # noqa: B023

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
    assert "factored-chunked-complexity" not in names


def test_reductions_go_up_to_what_there_is(setting):
    names = set(list_protocols(setting))
    assert {"random-32", "truncate-32", "learned-32"} <= names
    # Four documents have no 32 components, blocks of 58 dimensions no 64, the embedding no 64.
    assert not names & {"pca-32", "learned-64", "random-64"}
    chosen = choose_protocols("pca-3, truncate-31,pca-3", setting=setting)
    assert [protocol.name for protocol in chosen] == ["single-vector", "pca-3", "truncate-31"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "chunk-lines",
            "no protocol 'chunk-lines'; the families are single, chunks, .*did you mean",
        ),
        ("truncate-33", "truncate-33: the raw embedding has 32 dimensions; give 1 to 32"),
        ("random-0", "give 1 to 32"),
        ("pca-5", "32 dimensions, and 4 documents are there .*; give 1 to 4"),
        ("learned-2", "3 blocks of 58 dimensions in all; give 3 to 58"),
        ("pca-x", "no protocol 'pca-x'"),
        ("chunks,", "no protocol ''; the families are"),
    ],
)
def test_what_cannot_be_is_refused(names, message, setting):
    with pytest.raises(ConfigError, match=message):
        choose_protocols(names, setting=setting)


def test_without_chosen_weights_those_of_the_model_count(model, encoder):
    plain = Setting(model=model, documents=4)
    found = list_protocols(plain)
    assert found["factored-weights"].about == "all blocks, topic=1"
    assert {name for name in found if name.startswith("factored-chunked")} == {
        "factored-chunked-topic",
        "factored-chunked-all",
    }
    np.testing.assert_allclose(
        scores_of("factored-weights", plain, encoder),
        scores_of("factored-only-topic", plain, encoder),
        atol=1e-6,
    )
    assert sum(plain.levels.values()) == pytest.approx(1)
    assert set(plain.levels) == set(LEVELS)


def test_weights_count_as_they_do_in_a_search(setting, encoder, tmp_path):
    data = make_set()
    with Index.create(tmp_path / "index", setting.model) as index:
        index.add(data.documents)
        for query, scores in zip(
            data.queries.values(), scores_of("factored-weights", setting, encoder), strict=True
        ):
            hits = {hit.id: hit.score for hit in index.search(query, weights=WEIGHTS)}
            wanted = [hits[document.id] for document in data.documents]
            np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_a_reduction_without_its_size_and_a_near_miss_are_told_what_to_write(setting):
    with pytest.raises(ConfigError, match=r"pca needs a number of dimensions, such as pca-128"):
        choose_protocols("pca", setting=setting)
    with pytest.raises(ConfigError, match=r"did you mean .*chunk-sentences"):
        choose_protocols("chunk-sentence", setting=setting)


def test_sizes_that_there_are_too_few_documents_for_are_named(setting):
    assert left_out(setting) == ["pca-32"]
    assert left_out(replace(setting, documents=10_000)) == []
