"""An index that was built before serves a model that is adapted to labels of its texts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from retrieval_world import LAYOUT, QUERY, RECORDS, TEXTS

from subspace.cli.main import main
from subspace.data import Comparison, Rating, Record
from subspace.errors import ConfigError, QueryError
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
        (
            [*given, "--pairs", "x"],
            "give --labels or --comparisons, --usage or --ratings, or else --pairs",
        ),
        ([], "give --labels or --comparisons, --usage or --ratings, or else --pairs"),
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


@pytest.fixture(scope="module")
def likes(labels) -> list[Rating]:
    """Four hits rated in each of twelve searches: the calm ones served."""
    names = [record.id for record in labels]
    calm = {record.id: record.factors["style"] == "calm" for record in labels}
    return [
        Rating(f"q{n}", name, float(calm[name]))
        for n in range(len(names))
        for name in np.roll(names, n)[:4]
    ]


def test_a_view_learns_by_itself(plain, folder, likes):
    with Index.open(folder, plain) as index:
        view = index.view()
        adapted = view.adapt(ratings=[*likes, Rating("q0", "gone", 1.0)])
        assert adapted.adapted["factors"]["liked"]["feedback"]["q1"].keys() >= {likes[4].item}
        assert view.search(QUERY).hits == index.search(QUERY).hits
        assert view.search(QUERY, toward="liked=1").hits
        with pytest.raises(QueryError, match="no direction for 'liked'"):
            index.search(QUERY, toward="liked=1")


def test_the_command_learns_from_a_usage_log_and_forgets(plain, folder, likes, tmp_path, capsys):
    plain.save(tmp_path / "before")
    usage = str(tmp_path / "usage.db")
    with Index.open(folder, plain, usage=usage) as index:
        for one in likes:
            index.use({one.item: one.success}, query_id=one.query, namespace="alice")
    base = ["adapt", "--checkpoint", str(tmp_path / "before"), "--index", str(folder)]
    learn = [*base, "--usage", usage, "--output", str(tmp_path / "after")]
    assert main([*learn, "--namespace", "alice"]) == 0
    assert "liked: 48 ratings in 12 searches, trusted" in capsys.readouterr().out
    found = load(tmp_path / "after")
    with Index.open(folder, plain) as index:
        assert found.digest == index.adapt(ratings=likes).digest
    assert "| q3 | " in (tmp_path / "after/README.md").read_text()
    assert main(["feedback", "--usage", usage, "--namespace", "alice", "--forget", "q3"]) == 0
    assert "4 uses forgotten" in capsys.readouterr().out
    assert main([*learn, "--namespace", "alice"]) == 0
    assert "q3" not in load(tmp_path / "after").adapted["factors"]["liked"]["feedback"]
    assert "| q3 | " not in (tmp_path / "after/README.md").read_text()
    capsys.readouterr()
    for wrong, message in (
        (learn, "has no rated hits of searches without a namespace"),
        ([*learn, "--as", "a=b"], "--as: give the factor a name"),
        ([*learn, "--factors", "liked"], "--factors has no effect here: it needs --labels"),
        ([*base, "--labels", "x", "--as", "y", "--output", "z"], "it needs --usage or --ratings"),
        ([*base, "--ratings", "no.jsonl", "--output", "z"], "no.jsonl"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
    assert main(["feedback", "--usage", usage, "--export", str(tmp_path / "all.jsonl")]) == 0
    given = ["--ratings", str(tmp_path / "all.jsonl"), "--as", "calm"]
    assert main([*base, *given, "--output", str(tmp_path / "named")]) == 0
    assert "--toward calm=1" in capsys.readouterr().out


def test_the_command_takes_dimensions_from_the_layers(plain, folder, tmp_path, capsys):
    """Of an index whose texts are stored; what is learned of them is tested with the model."""
    plain.save(tmp_path / "before")
    given = tmp_path / "labels.jsonl"
    lines = [
        {"id": name, "text": text, "factors": {"complexity": float(len(text) % 7)}}
        for name, text in TEXTS.items()
    ]
    given.write_text("\n".join(map(json.dumps, lines)))
    base = ["adapt", "--checkpoint", str(tmp_path / "before"), "--depth", "layers"]
    base += ["--store", str(tmp_path / "store"), "--output", str(tmp_path / "after")]
    assert main([*base, "--labels", str(given), "--index", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "complexity: 12 labels, trusted" in said
    found = load(tmp_path / "after")
    stays = found.projection.digest == plain.projection.digest
    assert ("searches serve it" in said) == stays
    assert ("build indexes again" in said) != stays
    for wrong in (["--pairs", "x"], ["--usage", "x.db"]):
        assert main([*base, *wrong]) == 2
        assert "--depth layers needs --labels" in capsys.readouterr().err
