"""An index that was built before serves a model that is adapted to labels of its texts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from retrieval_world import LAYOUT, QUERY, RECORDS, TEXTS

from subspace.cli.main import main
from subspace.data import Comparison, Record
from subspace.errors import ConfigError
from subspace.model import load
from subspace.retrieval import Index, Like

WEIGHTS = {"topic": 0.01, "style": 1.0}


@pytest.fixture(scope="module")
def plain(model):
    """Searches by topic alone, so that the other blocks can be adapted."""
    return replace(model, default_weights={name: float(name == "topic") for name in LAYOUT})


@pytest.fixture(scope="module")
def folder(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted") / "index"
    Index.create(folder, plain, RECORDS).close()
    return folder


@pytest.fixture(scope="module")
def labels(plain, folder) -> list[Record]:
    """Two classes that the style block knows: the two sides of its principal direction."""
    with Index.open(folder, plain) as index:
        found = index.blocks.engine.fetch(list(TEXTS))
    z = found.vectors[:, LAYOUT.slice("style")]
    sides = np.linalg.svd(z - z.mean(axis=0))[0][:, 0] > 0
    return [
        replace(record, factors={"style": "loud" if side else "calm"})
        for record, side in zip(found.documents, sides, strict=True)
    ]


def test_the_index_uses_what_it_learned_and_opens_with_it(plain, folder, labels, tmp_path):
    with Index.open(folder, plain) as index:
        before = index.search(QUERY, weights=WEIGHTS, k=len(TEXTS))
        by_topic = index.search(QUERY)
        adapted = index.adapt(labels)
        found = index.search(QUERY, weights=WEIGHTS, k=len(TEXTS))
        assert index.search(QUERY).hits == by_topic.hits  # plain search stays, to the bit
        assert found.hits != before.hits
        like = index.search(Like("soup"), weights=WEIGHTS)
    adapted.save(tmp_path / "adapted")
    with Index.open(folder, tmp_path / "adapted") as index:
        assert index.search(QUERY, weights=WEIGHTS, k=len(TEXTS)).hits == found.hits
        assert index.search(Like("soup"), weights=WEIGHTS).hits == like.hits
    assert adapted.projection.digest == plain.projection.digest
    assert adapted.adapted["parent"] == plain.digest


def test_factors_are_learned_one_after_another_and_none_twice(plain, folder, labels):
    numbers = [replace(one, factors={"complexity": float(len(one.id))}) for one in labels]
    head = replace(plain.heads["style"], bias=np.zeros(2, np.float32))
    given = replace(plain, heads={**plain.heads, "style": head})
    with Index.open(folder, given) as index:
        encoder = index.model.open_encoder()
        one = index.adapt(numbers)
        assert one.heads["style"] is head  # which predicts as before
        first = index.adapt(labels)
        again = index.adapt(labels)
        assert set(again.adapted["factors"]) == {"style", "complexity"}
        assert again.digest == first.digest
        assert again.adapted["parent"] == given.digest
        assert index.model.open_encoder() is encoder


def test_an_empty_index_learns_from_the_labels_alone(plain, labels, tmp_path):
    with Index.create(tmp_path / "empty", plain) as index:
        assert index.adapt(labels).adapted["factors"]["style"]["labels"] == len(labels)


def test_scores_are_products_with_the_changed_query(plain, folder, labels):
    with Index.open(folder, plain) as index:
        index.adapt(labels)
        hits = index.search(QUERY, weights=WEIGHTS, k=len(TEXTS))
        asked = index.model.near_classes(index.model.encode_query([QUERY]).array)[0]
        found = index.blocks.engine.fetch(list(TEXTS))
        scale, place = index.model.score_scales["style"], LAYOUT.slice("style")
        products = dict(
            zip(
                [d.id for d in found.documents], found.vectors[:, place] @ asked[place], strict=True
            )
        )
    for hit in hits:
        assert hit.by_block()["style"] == pytest.approx(scale * products[hit.id], rel=1e-4)


def test_hits_are_of_the_querys_class(plain, folder, labels):
    own = {record.id: record.factors["style"] for record in labels}

    def share(index) -> float:
        hits = [index.search(Like(name), weights={"style": 1.0}, k=3) for name in TEXTS]
        pairs = zip(TEXTS, hits, strict=True)
        return float(np.mean([own[h.id] == own[name] for name, found in pairs for h in found]))

    with Index.open(folder, plain) as index:
        before = share(index)
        index.adapt(labels)
        assert share(index) > before


def test_comparisons_may_name_texts_of_the_index(plain, folder):
    names = list(TEXTS)
    pairs = [Comparison("complexity", names[n], names[n + 1]) for n in range(6)]
    with Index.open(folder, plain) as index:
        adapted = index.adapt([], comparisons=pairs)
        assert adapted.adapted["factors"]["complexity"]["comparisons"] == 6
        with pytest.raises(ConfigError, match="nor in an index: nowhere"):
            index.adapt([], comparisons=[*pairs, Comparison("complexity", "soup", "nowhere")])


def test_texts_that_the_index_lacks_are_encoded(plain, folder, labels):
    changed = [replace(record, id=f"new-{record.id}") for record in labels]
    with Index.open(folder, plain) as index:
        found = [index.adapt(records).direction("style") for records in (labels, changed)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_the_command_line_does_the_same(plain, folder, labels, tmp_path, capsys):
    plain.save(tmp_path / "before")
    lines = [{"id": r.id, "text": r.text, "factors": dict(r.factors)} for r in labels]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    base = ["adapt", "--checkpoint", str(tmp_path / "before"), "--store", str(tmp_path / "store")]
    given = ["--labels", str(tmp_path / "labels.jsonl")]
    with_index = [*given, "--index", str(folder), "--output", str(tmp_path / "after")]
    assert main([*base, *with_index]) == 0
    said = capsys.readouterr().out
    assert f"style: {len(labels)} labels, trusted" in said
    with Index.open(folder, plain) as index:
        assert load(tmp_path / "after").digest == index.adapt(labels).digest
    assert main([*base, *given, "--output", str(tmp_path / "without")]) == 0
    assert load(tmp_path / "without").adapted["factors"]["style"]["labels"] == len(labels)
    capsys.readouterr()
    for wrong, message in (
        ([*given, "--pairs", "x"], "give --labels or --comparisons, or else --pairs"),
        ([], "give --labels or --comparisons, or else --pairs"),
        (["--pairs", "x", "--index", str(folder)], "--index goes with --labels"),
        (["--labels", str(tmp_path / "no.jsonl")], "no.jsonl"),
        (
            [*given, "--factors", "mood"],
            "--factors: nothing is labelled with 'mood', only with style",
        ),
    ):
        assert main([*base, "--output", str(tmp_path / "other"), *wrong]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "other").exists()
