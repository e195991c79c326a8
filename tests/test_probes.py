"""Probes, separation, ranking and report in three worlds: planted, constant and leaky."""

import json
from contextlib import suppress
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score

from subspace.blocks import BlockLayout
from subspace.errors import SubspaceError
from subspace.evaluation import (
    Reading,
    Separation,
    matrix_lines,
    measure_separation,
    rank_score,
    write_report,
)
from subspace.evaluation.probes import ProbeScore, can_probe, linear_probe
from subspace.labels import Column, Labels
from subspace.projection import Projection
from subspace.retrieval_sets import Document, RetrievalSet

COUNT = 3000
DIM = 16
RAW = slice(0, DIM)
RIDGES = (1e-3, 1e-2, 1e-1)


def make_labels(*, seed: int = 0, count: int = COUNT) -> Labels:
    """Topic in four classes, style in two, complexity a number; two in three texts train."""
    rng = np.random.default_rng(seed)
    splits = np.tile([0, 0, 0, 0, 1, 2], count // 6 + 1)[:count]
    values = rng.random(count)
    return Labels(
        source="test",
        columns={
            "topic": Column(codes=rng.integers(0, 4, count), class_count=4),
            "style": Column(codes=rng.integers(0, 2, count), class_count=2),
            "complexity": Column(
                codes=np.digitize(values, [0.25, 0.5, 0.75]), class_count=4, values=values
            ),
        },
        groups=np.full(count, -1),
        splits=splits,
    )


# Where each factor lies in the planted embedding.
PLACES = {"topic": slice(0, 4), "style": slice(4, 6), "complexity": slice(6, 7)}


def plant(labels: Labels, *, noise: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(1)
    x = noise * rng.normal(size=(len(labels), DIM))
    x[:, PLACES["topic"]] += np.eye(4)[labels.columns["topic"].codes]
    x[:, PLACES["style"]] += np.eye(2)[labels.columns["style"].codes]
    x[:, PLACES["complexity"]] += 2 * labels.columns["complexity"].values[:, None]
    return x.astype(np.float32)


def cut(places: dict[str, slice]) -> Projection:
    """A projection whose blocks are the dimensions given, as they are."""
    weight = np.concatenate([np.eye(DIM)[place] for place in places.values()])
    widths = {name: len(range(DIM)[place]) for name, place in places.items()}
    return Projection(
        weight=weight.astype(np.float32),
        mean=np.zeros(DIM, dtype=np.float32),
        layout=BlockLayout.from_widths(widths),
    )


# A direction of its own keeps a number readable after scaling to unit length.
PLANTED = {"topic": slice(0, 4), "style": slice(4, 6), "complexity": slice(6, 16)}
EVERYTHING = {"topic": slice(0, DIM), "style": slice(0, DIM)}


def measure(projection: Projection, x: np.ndarray, labels: Labels) -> Separation:
    return measure_separation(projection, embeddings={"test": x}, labels={"test": labels}, raw=RAW)


# Planted: a block of each factor's own dimensions.


@pytest.fixture(scope="module")
def planted() -> Separation:
    labels = make_labels()
    return measure(cut(PLANTED), plant(labels), labels)


def test_planted_blocks_hold_their_own_factor_and_nothing_else(planted):
    assert planted.blocks == planted.factors == ("topic", "style", "complexity")
    matrix = planted.matrix()
    assert (np.diag(matrix) > 0.85).all()
    assert (matrix[~np.eye(3, dtype=bool)] < 0.25).all()
    assert planted.selectivity() > 0.75


def test_retention_is_the_diagonal_and_leakage_the_mean_of_the_rest(planted):
    matrix = planted.matrix()
    for row, block in enumerate(planted.blocks):
        assert planted.retention()[block] == matrix[row, row]
        rest = np.delete(matrix[row], row)
        assert planted.leakage()[block] == pytest.approx(rest.mean(), rel=1e-12)
    both = [planted.retention()[b] - planted.leakage()[b] for b in planted.blocks]
    assert planted.selectivity() == pytest.approx(np.mean(both), rel=1e-12)


def test_a_reading_is_relative_to_the_same_probe_on_the_raw_embedding(planted):
    raw = {r.factor: r for r in planted.readings if r.space == "raw"}
    assert {r.relative for r in raw.values()} == {1.0}
    for reading in planted.readings:
        above = max(reading.score - reading.chance, 0)
        baseline = raw[reading.factor].score - raw[reading.factor].chance
        assert reading.relative == pytest.approx(above / baseline, rel=1e-12)


def test_sources_count_alike_in_the_mean():
    readings = [
        Reading("large", "topic", "topic", score=0.9, chance=0.5, relative=1.0),
        Reading("small", "topic", "topic", score=0.6, chance=0.5, relative=0.2),
        Reading("small", "style", "topic", score=0.6, chance=0.5, relative=0.1),
    ]
    separation = Separation(("topic",), ("topic", "style"), tuple(readings), ())
    np.testing.assert_allclose(separation.matrix(), [[0.6, 0.1]])
    assert separation.selectivity() == pytest.approx(0.5)


# Constant: nothing to read.


@pytest.mark.parametrize("factor", ["topic", "style", "complexity"])
@pytest.mark.parametrize("value", [0.0, 0.3, 1e6])
def test_constant_vectors_are_at_chance(factor, value):
    """No warning either: warnings are errors here."""
    labels = make_labels()
    x = np.full((COUNT, DIM), value, dtype=np.float32)
    probe = linear_probe(x, column=labels.columns[factor], labels=labels)
    assert probe.score == pytest.approx(probe.chance, abs=1e-12)
    assert probe.above_chance == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("factor", ["topic", "style", "complexity"])
def test_noise_is_about_at_chance_and_the_planted_factor_was_not(factor):
    labels = make_labels()
    noise = np.random.default_rng(2).normal(size=(COUNT, DIM)).astype(np.float32)
    column = labels.columns[factor]
    assert linear_probe(noise, column=column, labels=labels).above_chance < 0.12
    assert linear_probe(plant(labels), column=column, labels=labels).above_chance > 0.4


def test_a_constant_block_retains_and_leaks_nothing():
    labels = make_labels()
    x = plant(labels)
    x[:, 15] = 0
    matrix = measure(cut({"topic": slice(0, 4), "style": slice(15, 16)}), x, labels).matrix()
    np.testing.assert_allclose(matrix[1], 0, atol=1e-12)
    assert matrix[0, 0] > 0.85


def test_a_factor_that_the_raw_embedding_does_not_hold_is_left_out_with_the_reason():
    labels = make_labels()
    x = plant(labels)
    x[:, PLACES["style"]] = 0
    separation = measure(cut(PLANTED), x, labels)
    assert separation.factors == ("topic", "complexity")
    assert separation.left_out == ("test/style: the raw embedding itself is at chance",)


# Leaky: every block holds everything.


def test_blocks_that_hold_both_factors_leak_as_much_as_they_retain():
    labels = make_labels()
    separation = measure(cut(EVERYTHING), plant(labels), labels)
    np.testing.assert_allclose(separation.matrix(), 1, atol=0.02)
    assert all(leak == pytest.approx(1, abs=0.02) for leak in separation.leakage().values())


def test_the_raw_embedding_as_its_own_blocks_has_no_selectivity():
    """The planted blocks have; see above."""
    labels = make_labels()
    assert measure(cut(EVERYTHING), plant(labels), labels).selectivity() == pytest.approx(
        0, abs=0.02
    )


def test_raw_says_which_dimensions_are_the_baseline():
    labels = make_labels()
    x = plant(labels)
    separation = measure_separation(
        cut({"topic": slice(0, 4)}),
        embeddings={"test": x},
        labels={"test": labels},
        raw=PLACES["style"],
    )
    assert "style" in separation.factors
    assert any(reason.startswith("test/topic: the raw") for reason in separation.left_out)


def test_a_block_called_raw_is_refused_or_does_not_stand_in_for_the_raw_embedding():
    labels = make_labels()
    places = {"topic": slice(0, 4), "raw": slice(15, 16)}
    with suppress(SubspaceError):
        readings = measure(cut(places), plant(labels), labels).readings
        plain = measure(cut({"topic": slice(0, 4)}), plant(labels), labels).readings
        assert [r for r in readings if r.space == "topic"] == [
            r for r in plain if r.space == "topic"
        ]
        assert [r.score for r in plain if r.space == "raw"] == [
            r.score for r in readings if r.relative == 1
        ]


# The probe itself.


def split(labels: Labels, name: str, column: Column) -> np.ndarray:
    positions = labels.positions(name)
    return positions[column.codes[positions] >= 0]


@pytest.mark.parametrize("factor", ["topic", "style", "complexity"])
@pytest.mark.parametrize("noise", [0.3, 1.5])
def test_the_probe_is_the_ridge_of_scikit_learn_with_the_strength_validation_prefers(factor, noise):
    labels = make_labels(seed=3)
    x = plant(labels, noise=noise)
    column = labels.columns[factor]
    # Classes of unequal size and texts without label.
    dropped = (column.codes == 0) & (np.random.default_rng(4).random(COUNT) < 0.6)
    codes = np.where(dropped, -1, column.codes)
    column = Column(codes=codes, class_count=column.class_count, values=column.values)
    train, validation, test = (split(labels, s, column) for s in ("train", "validation", "test"))
    features = (x - x[train].mean(axis=0)) / x[train].std(axis=0)

    def reach(model, positions: np.ndarray) -> float:
        predicted = model.predict(features[positions])
        if column.ordered:
            return spearmanr(column.values[positions], predicted).statistic
        return balanced_accuracy_score(codes[positions], predicted)

    models = []
    for ridge in RIDGES:
        strength = ridge * len(train)
        if column.ordered:
            model = Ridge(alpha=strength).fit(features[train], column.values[train])
        else:
            model = RidgeClassifier(alpha=strength, class_weight="balanced")
            model.fit(features[train], codes[train])
        models.append(model)
    best = max(models, key=lambda model: reach(model, validation))
    probe = linear_probe(x, column=column, labels=labels)
    assert probe.score == pytest.approx(reach(best, test), abs=0.01)
    assert probe.chance == (0 if column.ordered else 1 / column.class_count)


def test_test_labels_are_for_scoring_alone():
    """Swapping two classes on the test texts turns every right guess into a wrong one."""
    labels = make_labels()
    x, column = plant(labels), labels.columns["style"]
    test = labels.positions("test")
    swapped = column.codes.copy()
    swapped[test] = 1 - swapped[test]
    score = linear_probe(x, column=column, labels=labels).score
    other = linear_probe(x, column=Column(swapped, class_count=2), labels=labels).score
    assert score > 0.8
    assert other == pytest.approx(1 - score, abs=1e-12)


def test_a_probe_of_shuffled_training_labels_is_about_at_chance():
    labels = make_labels()
    codes = labels.columns["style"].codes.copy()
    known = np.concatenate([labels.positions("train"), labels.positions("validation")])
    codes[known] = np.random.default_rng(0).permutation(codes[known])
    probe = linear_probe(plant(labels), column=Column(codes, class_count=2), labels=labels)
    assert abs(probe.score - probe.chance) < 0.1


def test_the_scale_and_place_of_the_vectors_do_not_matter():
    labels = make_labels()
    x = plant(labels).astype(np.float64)
    column = labels.columns["topic"]
    first = linear_probe(x, column=column, labels=labels)
    other = linear_probe(x * np.linspace(1e-3, 1e3, DIM) + 50, column=column, labels=labels)
    assert other.score == pytest.approx(first.score, abs=1e-9)


def test_below_chance_nothing_is_held():
    assert ProbeScore(score=0.2, chance=0.25).above_chance == 0
    assert ProbeScore(score=-0.5, chance=0.0).above_chance == 0
    assert ProbeScore(score=0.75, chance=0.25).above_chance == 0.5


def probe_labels(sizes: dict[str, int], **classes: list[int]) -> tuple[Column, Labels]:
    """A column in which each split goes through its own classes."""
    codes = [np.resize(np.array(classes.get(name, [0, 1])), size) for name, size in sizes.items()]
    splits = np.repeat(np.arange(3), list(sizes.values()))
    column = Column(codes=np.concatenate(codes), class_count=9)
    labels = Labels("test", {"f": column}, groups=np.full(len(splits), -1), splits=splits)
    return column, labels


ENOUGH = {"train": 90, "validation": 30, "test": 30}


def test_enough_texts_of_two_classes_in_every_split_can_be_probed():
    column, labels = probe_labels(ENOUGH)
    assert can_probe(column, labels=labels)


@pytest.mark.parametrize("part", ENOUGH)
def test_a_split_with_too_few_labelled_texts_cannot_be_probed(part):
    column, labels = probe_labels({**ENOUGH, part: 29})
    assert not can_probe(column, labels=labels)
    column, labels = probe_labels({**ENOUGH, part: 40}, **{part: [0, 1, -1]})
    assert not can_probe(column, labels=labels)  # a third of 40 has no label


@pytest.mark.parametrize("part", ENOUGH)
def test_a_split_with_one_class_cannot_be_probed(part):
    column, labels = probe_labels(ENOUGH, **{part: [1]})
    assert not can_probe(column, labels=labels)


def test_classes_that_training_has_never_seen_cannot_be_tested_but_numbers_can():
    column, labels = probe_labels(ENOUGH, test=[0, 1, 2])
    assert not can_probe(column, labels=labels)
    numbers = Column(column.codes, class_count=9, values=column.codes.astype(np.float64))
    assert can_probe(numbers, labels=labels)


def test_what_cannot_be_probed_is_left_out_with_the_reason():
    _, labels = probe_labels({**ENOUGH, "test": 5})
    separation = measure(cut(PLANTED), np.ones((len(labels), DIM), np.float32), labels)
    assert separation.readings == ()
    assert separation.left_out[0].startswith("test/f: a probe needs 30")


# Ranking.


def make_set(relevance: list[list[int]]) -> RetrievalSet:
    documents = [Document(id=f"d{n}", text="text") for n in range(len(relevance[0]))]
    return RetrievalSet(
        documents=tuple(documents),
        queries={f"q{row}": "query" for row in range(len(relevance))},
        relevance={
            f"q{row}": {f"d{n}": float(grade) for n, grade in enumerate(grades) if grade != 9}
            for row, grades in enumerate(relevance)
        },
    )


def slow_scores(scores: list[float], grades: list[int], k: int) -> tuple[float, float]:
    """Binary nDCG@k and reciprocal rank, averaged over all orders of tied documents."""
    count = len(scores)
    orders = [
        order
        for order in permutations(range(count))
        if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, sum(g > 0 for g in grades))))
    gains, reciprocal = [], []
    for order in orders:
        hits = [rank for rank, document in enumerate(order) if grades[document] > 0]
        gains.append(sum(1 / np.log2(rank + 2) for rank in hits if rank < k) / ideal)
        reciprocal.append(1 / (hits[0] + 1))
    return float(np.mean(gains)), float(np.mean(reciprocal))


def score(scores, relevance: list[list[int]], *, k: int = 10):
    data = make_set(relevance)
    return rank_score(np.array(scores), query_ids=list(data.queries), data=data, k=k)


@settings(max_examples=60, deadline=None)
@given(
    queries=st.lists(
        st.tuples(
            st.permutations([0.1, 0.2, 0.3, 0.4, 0.5]),
            st.lists(st.sampled_from([0, 1, 3]), min_size=5, max_size=5).filter(any),
        ),
        min_size=1,
        max_size=3,
    ),
    k=st.integers(1, 7),
)
def test_ndcg_and_mrr_follow_their_definition(queries, k):
    scores, grades = map(list, zip(*queries, strict=True))
    slow = np.mean([slow_scores(*query, k) for query in queries], axis=0)
    found = score(scores, grades, k=k)
    assert (found.ndcg, found.mrr) == pytest.approx(tuple(slow), rel=1e-9)
    assert (found.k, found.queries) == (k, len(queries))


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=5),
    grades=st.lists(st.sampled_from([0, 1]), min_size=5, max_size=5).filter(any),
    k=st.integers(1, 7),
)
def test_ndcg_is_the_mean_over_all_orders_of_tied_documents(scores, grades, k):
    found = score([scores], [grades], k=k)
    assert found.ndcg == pytest.approx(slow_scores(scores, grades, k)[0], rel=1e-9)


def test_constant_scores_are_worth_the_same_wherever_the_relevant_document_stands():
    """A block that says nothing must not gain from the order of the file."""
    found = [score(np.zeros((1, 5)), [np.eye(5, dtype=int)[place].tolist()]) for place in range(5)]
    expected = slow_scores([0.0] * 5, [1, 0, 0, 0, 0], 10)
    for place in range(5):
        assert found[place].ndcg == pytest.approx(expected[0], rel=1e-9)
        assert found[place].mrr == pytest.approx(expected[1], rel=1e-9)


def test_a_perfect_ranking_scores_one_and_the_reverse_does_not():
    grades = [[1, 1, 0, 0, 0]]
    best, worst = score([[5, 4, 3, 2, 1]], grades), score([[1, 2, 3, 4, 5]], grades)
    assert (best.ndcg, best.mrr) == (pytest.approx(1), 1)
    assert worst.ndcg < 0.7
    assert worst.mrr == 0.25


def test_grades_above_zero_count_alike_and_zero_not_at_all():
    scores = [[5, 4, 3, 2, 1]]
    assert score(scores, [[0, 3, 0, 1, 0]]) == score(scores, [[9, 1, 9, 2, 9]])


def test_queries_without_a_relevant_document_do_not_count():
    scores = [[1, 2, 3], [3, 2, 1]]
    assert score(scores, [[1, 0, 0], [0, 0, 0]]) == score(scores[:1], [[1, 0, 0]])
    with pytest.raises(ValueError, match="no query has a relevant document"):
        score(scores, [[0, 0, 0], [9, 9, 9]])


def test_a_single_document_that_is_relevant_is_found():
    found = score([[0.5]], [[1]])
    assert (found.ndcg, found.mrr) == (1, 1)


# The report.


def make_separation(**changes) -> Separation:
    readings = [
        Reading("corpus", factor, space, score=0.5 + share / 2, chance=0.5, relative=share)
        for factor in ("topic", "style")
        for space, share in (("raw", 1.0), ("topic", 0.9), ("style", 0.25), ("tone", 0.0))
    ]
    values = {
        "blocks": ("topic", "style", "tone"),
        "factors": ("topic", "style"),
        "readings": tuple(readings),
        "left_out": ("corpus/tone: too few texts",),
    }
    return Separation(**{**values, **changes})


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def report(separation: Separation, folder: Path, about: dict | None = None) -> dict[str, bytes]:
    write_report(separation, folder=folder, about=about or {"encoder": "tiny"})
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_report_is_a_json_a_markdown_and_a_png_file(tmp_path):
    files = report(make_separation(), tmp_path / "new" / "folder")
    assert list(files) == ["separation.json", "separation.md", "separation.png"]
    assert files["separation.png"].startswith(b"\x89PNG\r\n\x1a\n")


def test_the_json_holds_everything_and_no_nan(tmp_path):
    separation = make_separation()
    files = report(separation, tmp_path)
    document = json.loads(files["separation.json"], parse_constant=refuse_constant)
    assert document["about"] == {"encoder": "tiny"}
    assert document["matrix"] == separation.matrix().tolist()
    assert document["selectivity"] == separation.selectivity()
    assert document["left_out"] == ["corpus/tone: too few texts"]
    assert [Reading(**reading) for reading in document["readings"]] == list(separation.readings)


def test_the_markdown_has_the_matrix_and_what_was_left_out(tmp_path):
    text = report(make_separation(), tmp_path)["separation.md"].decode()
    assert "| topic | 0.90 | 0.90 | 0.90 | 0.90 |" in text
    assert "| tone | 0.00 | 0.00 | - | 0.00 |" in text
    assert "- corpus/tone: too few texts" in text
    assert "\n".join(matrix_lines(make_separation())) in text
    assert "| corpus | topic | balanced accuracy | 0.500 | 1.000 | 0.950 | 0.625 | 0.500 |" in text


@pytest.mark.parametrize(
    "changes",
    [
        {"factors": (), "readings": ()},
        {"blocks": ("topic",), "factors": ("topic",)},
        {"blocks": ("tone",)},
    ],
    ids=["nothing was read", "one block, one factor", "no own factor"],
)
def test_what_could_not_be_measured_is_null_or_a_dash_and_never_nan(changes, tmp_path):
    files = report(make_separation(**changes), tmp_path)
    json.loads(files["separation.json"], parse_constant=refuse_constant)
    assert "nan" not in files["separation.md"].decode()
    assert files["separation.png"].startswith(b"\x89PNG\r\n\x1a\n")


def test_the_same_input_gives_the_same_bytes_and_another_input_does_not(tmp_path):
    first = report(make_separation(), tmp_path / "first")
    assert report(make_separation(), tmp_path / "again") == first
    readings = make_separation().readings[:-1]
    last = make_separation().readings[-1]
    changed = Reading(**{**vars(last), "score": 0.75, "relative": 0.5})
    other = report(make_separation(readings=(*readings, changed)), tmp_path / "other")
    assert all(other[name] != first[name] for name in first)


def test_measuring_twice_gives_the_same_report(tmp_path, planted):
    labels = make_labels()
    again = measure(cut(PLANTED), plant(labels), labels)
    assert report(again, tmp_path / "again") == report(planted, tmp_path / "first")


def test_a_report_is_written_over_an_older_one(tmp_path, planted):
    report(planted, tmp_path)
    assert report(make_separation(), tmp_path) == report(make_separation(), tmp_path / "fresh")
