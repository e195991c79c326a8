"""Pairs are read from BEIR folders, stored once, and learned from by split."""

import json
from pathlib import Path

import numpy as np
import pytest

from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.fitting.stored_pairs import read_pairs, store_pairs, training_pairs


def write_set(folder: Path, *, documents: int = 8, splits: bool = True) -> Path:
    """Query n asks for documents n and n + 1; every fourth query is for validation."""
    folder.mkdir(parents=True)
    subjects = ["rivers", "engines", "bread", "stars", "wool", "bridges", "bees", "salt"]
    corpus = [
        {"_id": f"d{n}", "title": "", "text": f"how {subjects[n]} are made and looked after by us"}
        for n in range(documents)
    ]
    queries = [
        {"_id": f"q{n}", "text": f"tell me of {subjects[n]}"}
        | ({"metadata": {"split": "validation" if n % 4 == 3 else "train"}} if splits else {})
        for n in range(documents)
    ]
    for name, rows in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    judged = [f"q{n}\td{(n + step) % documents}\t1" for n in range(documents) for step in (0, 1)]
    judged.append("q0\td5\t0")
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judged) + "\n")
    return folder


@pytest.fixture(scope="module")
def encoder(tiny_qwen: Path, tmp_path_factory) -> CachedEncoder:
    root = tmp_path_factory.mktemp("store")
    return CachedEncoder.open(EncoderSpec(model=str(tiny_qwen)), root=root)


def test_pairs_are_the_judgements_above_zero_by_split(encoder, tmp_path):
    sets = read_pairs([write_set(tmp_path / "asked")])
    stored = store_pairs(sets, encoder=encoder)["asked"]
    assert {tuple(pair) for pair in stored.pairs} == {
        (n, (n + step) % 8) for n in range(8) for step in (0, 1)
    }
    assert sorted(map(tuple, stored.pairs_of("validation"))) == [(3, 3), (3, 4), (7, 0), (7, 7)]
    assert len(stored.pairs_of("train")) == 12
    assert not len(stored.pairs_of("test"))
    # Queries are encoded as queries, documents as documents.
    texts = list(sets["asked"].queries.values())
    np.testing.assert_array_equal(stored.queries, encoder.rows(texts, kind="query"))
    assert set(stored.queries).isdisjoint(stored.documents)


def test_a_set_without_splits_is_for_training(encoder, tmp_path):
    sets = read_pairs([write_set(tmp_path / "asked", splits=False)])
    assert len(store_pairs(sets, encoder=encoder)["asked"].pairs_of("train")) == 16


def test_what_is_held_out_is_not_learned_from(encoder, tmp_path):
    """The statistics are those of a set that lacks the held-out queries."""
    sets = read_pairs([write_set(tmp_path / "asked")])
    stored = store_pairs(sets, encoder=encoder)["asked"]
    found, halves = training_pairs(stored, vectors=encoder.store.vectors)
    assert found.queries.count == 6
    queries = encoder.store.vectors[stored.queries[[0, 1, 2, 4, 5, 6]]]
    np.testing.assert_allclose(found.queries.mean, queries.mean(axis=0), atol=1e-6)
    assert halves is not None
    assert len(stored.halves) == 8  # the documents; queries of four words have no halves


def test_sets_below_a_folder_are_found_by_name_and_others_refused(tmp_path):
    write_set(tmp_path / "all" / "one")
    write_set(tmp_path / "all" / "two")
    assert list(read_pairs([tmp_path / "all"])) == ["one", "two"]
    with pytest.raises(ConfigError, match="two sets are named 'one'"):
        read_pairs([tmp_path / "all", tmp_path / "all" / "one"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty holds no retrieval set"):
        read_pairs([tmp_path / "empty"])


def test_the_hash_follows_texts_and_judgements(encoder, tmp_path):
    first = store_pairs(read_pairs([write_set(tmp_path / "one")]), encoder=encoder)["one"]
    folder = write_set(tmp_path / "two")
    assert store_pairs(read_pairs([folder]), encoder=encoder)["two"].sha256 == first.sha256
    (folder / "qrels.tsv").write_text("q0\td3\t1\n")
    assert store_pairs(read_pairs([folder]), encoder=encoder)["two"].sha256 != first.sha256


def test_halves_are_of_documents_and_training_queries_alone(encoder, tmp_path):
    folder = write_set(tmp_path / "asked")
    path = folder / "queries.jsonl"
    path.write_text(path.read_text().replace("tell me of", "tell me all that there is to know of"))
    sets = read_pairs([folder])
    stored = store_pairs(sets, encoder=encoder)["asked"]
    data = sets["asked"]
    long = [d.text for d in data.documents] + [
        text for query, text in data.queries.items() if data.split(query) == "train"
    ]
    halves = [" ".join(t.split()[: len(t.split()) // 2]) for t in long]
    assert len(halves) == 8 + 6
    np.testing.assert_array_equal(stored.halves[:, 0], encoder.rows(halves))


def test_files_of_judgements_may_be_called_dev(tmp_path):
    folder = write_set(tmp_path / "asked", splits=False)
    lines = (folder / "qrels.tsv").read_text().splitlines()[1:]
    (folder / "qrels.tsv").unlink()
    (folder / "qrels").mkdir()
    for name, part in (("train", lines[:8]), ("dev", lines[8:12]), ("test", lines[12:])):
        (folder / "qrels" / f"{name}.tsv").write_text("\n".join(part) + "\n")
    data = read_pairs([folder])["asked"]
    assert {data.split(query) for query in data.queries} == {"train", "validation", "test"}


def test_a_set_with_nothing_to_learn_from_is_named_with_its_splits(tmp_path):
    folder = write_set(tmp_path / "asked", splits=False)
    (folder / "qrels").mkdir()
    (folder / "qrels.tsv").rename(folder / "qrels" / "test.tsv")
    with pytest.raises(
        ConfigError, match=r"no query of 'asked' in the split 'train' .*8 in 'test'"
    ):
        read_pairs([folder])
