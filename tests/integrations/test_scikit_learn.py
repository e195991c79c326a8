"""Blocks of embeddings as a transformer of scikit-learn, fitted by the library's own solver."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

import subspace
from subspace.data.records import Record
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError, LayoutError
from subspace.fitting.block_spec import BlockSpec
from subspace.integrations.scikit_learn import BlockProjection

DIM, COUNT = 12, 240


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, dict[str, list]]:
    """Topics far apart, styles near to each other, a number, and noise in all directions."""
    rng = np.random.default_rng(0)
    topic, style = rng.integers(3, size=COUNT), rng.integers(2, size=COUNT)
    hard = rng.normal(size=COUNT)
    x = np.where(np.arange(DIM) < 5, 0.3, 1.5) * rng.normal(size=(COUNT, DIM))
    x[:, :3] += 5 * np.eye(3)[topic]
    x[:, 3] += 1.2 * (style - 0.5)
    x[:, 4] += 0.6 * hard
    labels = {
        "topic": [f"topic {one}" for one in topic],
        "style": [("casual", "formal")[one] for one in style],
        "complexity": hard.tolist(),
    }
    return x, labels


def labels_of(labels: dict[str, list], rows: slice) -> dict[str, list]:
    return {name: column[rows] for name, column in labels.items()}


def weights(y, x, **options) -> np.ndarray:
    fit_options = {"groups": options.pop("groups")} if "groups" in options else {}
    return BlockProjection(**options).fit(x, y, **fit_options).projection_.weight


def test_it_passes_scikit_learns_own_checks_and_none_is_expected_to_fail():
    """Also those of labels: any labels that their data has are classes or numbers of one factor."""
    checks = check_estimator(BlockProjection(), expected_failed_checks={}, on_skip=None)
    assert len(checks) > 40
    assert {check["status"] for check in checks} <= {"passed", "skipped"}


def test_the_projection_is_that_of_fit_on_the_same_embeddings(tiny_qwen, tmp_path):
    words = ("a dog barks", "he ran", "the loaf bakes", "sow seeds", "tax is due", "she won")
    records = [
        Record(
            id=f"{topic}-{style}",
            text=f"{text}!!!" if style == "casual" else f"It is said that {text}.",
            factors={"topic": f"topic {topic}", "style": style, "complexity": topic + 0.5},
            group=f"g{topic}",
            split="train",
        )
        for topic, text in enumerate(words)
        for style in ("casual", "formal")
    ]
    blocks = {"topic": 4, "style": {"width": 3, "layers": [1]}, "complexity": 2}
    spec = EncoderSpec(model=str(tiny_qwen), layers=(1, 2))
    model = subspace.fit(records, encoder=spec, blocks=blocks, store=tmp_path / "store")
    x = model.open_encoder().encode([record.text for record in records])
    table = pd.DataFrame([record.factors for record in records])
    found = BlockProjection(blocks, layers=model.fingerprint.layers)
    found.fit(x, table, groups=[record.group for record in records])
    np.testing.assert_allclose(found.projection_.weight, model.projection.weight, atol=1e-5)
    np.testing.assert_allclose(found.projection_.mean, model.projection.mean, atol=1e-6)
    np.testing.assert_allclose(found.transform(x), model.project(x).array, atol=1e-5)
    without = found.fit(x, table).projection_.weight
    assert np.abs(without - model.projection.weight).max() > 1e-3  # groups count


def test_a_block_finds_its_factor_where_the_embedding_does_not(world):
    x, labels = world
    blocks = {"topic": 3, "style": {"width": 3, "signal_power": 1.0, "noise_power": 1.0}}
    z = BlockProjection(blocks).fit(x[::2], labels_of(labels, slice(None, None, 2))).transform(x)
    style = np.array(labels["style"])

    def accuracy(vectors: np.ndarray) -> float:
        nearest = KNeighborsClassifier(5).fit(vectors[::2], style[::2])
        return nearest.score(vectors[1::2], style[1::2])

    assert accuracy(z[:, 3:]) > 0.8  # on texts that were left out
    assert accuracy(x) < 0.7
    assert accuracy(z[:, :3]) < 0.7


def test_every_form_of_labels_gives_the_same_blocks(world):
    x, labels = world
    one = {"style": [None if at % 5 == 0 else label for at, label in enumerate(labels["style"])]}
    codes = [np.nan if label is None else float(label == "formal") for label in one["style"]]
    blocks = {"style": 4}
    wanted = weights(one, x, blocks=blocks)
    table = pd.DataFrame(one)
    forms = {
        "table": table,
        "series": table["style"],
        "categories": table["style"].astype("category"),
        "strings with NA": table.astype("string"),
        "two classes as numbers": {"style": codes},
    }
    for name, y in forms.items():
        np.testing.assert_allclose(weights(y, x, blocks=blocks), wanted, atol=1e-5, err_msg=name)
    named = {"blocks": blocks, "factors": ["style"]}
    for y in (one["style"], np.array(one["style"], dtype=object), np.array(codes)[:, None]):
        np.testing.assert_allclose(weights(y, x, **named), wanted, atol=1e-5)
    # The gaps are no class of their own, and the labels in them would change the block.
    assert np.abs(weights({"style": labels["style"]}, x, blocks=blocks) - wanted).max() > 1e-3


def test_lists_of_texts_keep_their_gaps_and_the_numbers_beside_them(world):
    """numpy makes texts of everything in a list that holds one."""
    x, labels = world
    style = [np.nan if at % 5 == 0 else label for at, label in enumerate(labels["style"])]
    gaps = {"style": [None if label is np.nan else label for label in style]}
    wanted = weights(gaps, x, blocks={"style": 4})
    found = weights({"style": style}, x, blocks={"style": 4})
    np.testing.assert_array_equal(found, wanted)
    named = {"blocks": {"style": 4}, "factors": ["style"]}
    np.testing.assert_array_equal(weights(style, x, **named), wanted)
    both = {"blocks": {"style": 3, "complexity": 3}, "factors": ["style", "complexity"]}
    rows = [list(row) for row in zip(style, labels["complexity"], strict=True)]
    table = {**gaps, "complexity": labels["complexity"]}
    np.testing.assert_array_equal(
        weights(rows, x, **both), weights(table, x, blocks=both["blocks"])
    )


def test_several_columns_are_named_by_the_table_or_by_hand(world):
    x, labels = world
    names = ["style", "topic"]
    array = np.array([labels[name] for name in names], dtype=object).T
    wanted = weights({name: labels[name] for name in names}, x, blocks={"style": 3, "topic": 3})
    found = weights(array, x, blocks={"style": 3, "topic": 3}, factors=names)
    np.testing.assert_array_equal(found, wanted)
    assert list(BlockProjection().fit(x, array).blocks_) == ["topic", "y0", "y1"]
    assert list(BlockProjection().fit(x, labels["style"]).blocks_) == ["topic", "y"]
    assert list(BlockProjection(["style"]).fit(x, labels).blocks_) == ["style"]


def test_floats_are_ordered_and_whole_numbers_are_classes_unless_it_is_said(world):
    x, labels = world
    ranks = np.argsort(np.argsort(labels["complexity"])) // 10  # 24 values
    whole = weights({"complexity": ranks}, x, blocks={"complexity": 4})
    floats = weights({"complexity": ranks.astype(float)}, x, blocks={"complexity": 4})
    said = weights({"complexity": ranks}, x, blocks={"complexity": 4}, numbers=["complexity"])
    none = weights({"complexity": ranks.astype(float)}, x, blocks={"complexity": 4}, numbers=[])
    np.testing.assert_array_equal(said, floats)
    np.testing.assert_array_equal(none, whole)
    assert np.abs(floats - whole).max() > 1e-3


def test_without_labels_there_is_a_topic_block_of_leading_directions(world):
    x, _ = world
    blocks = BlockProjection().fit(x)
    assert list(blocks.blocks_) == ["topic"]
    leading = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)[2]
    for row, direction in zip(blocks.projection_.weight[:3], leading, strict=False):
        assert abs(row @ direction) == pytest.approx(1, abs=1e-3)


def test_dimensions_are_named_after_their_blocks(world):
    x, labels = world
    blocks = BlockProjection({"topic": 2, "style": BlockSpec(width=1)}).fit(x, labels)
    assert blocks.get_feature_names_out().tolist() == ["topic_0", "topic_1", "style_0"]
    table = blocks.set_output(transform="pandas").transform(x)
    np.testing.assert_allclose(np.abs(table["style_0"]), 1, atol=1e-6)  # one dimension
    np.testing.assert_allclose(np.linalg.norm(table[["topic_0", "topic_1"]], axis=1), 1, atol=1e-6)


def test_it_goes_into_pipelines_and_searches_of_settings(world):
    x, labels = world
    pipeline = make_pipeline(
        BlockProjection({"style": 2}, factors=["style"]), KNeighborsClassifier()
    )
    search = GridSearchCV(pipeline, {"blockprojection__blocks": [{"style": 1}, {"style": 6}]}, cv=3)
    search.fit(x, labels["style"])
    assert search.best_params_["blockprojection__blocks"] in ({"style": 1}, {"style": 6})
    assert search.best_score_ > 0.8
    assert clone(pipeline).get_params()["blockprojection__factors"] == ["style"]


@pytest.mark.parametrize(
    ("options", "y", "message"),
    [
        ({"blocks": {"style": 3}}, {"style": ["a"] * COUNT}, "'style' has a single class"),
        ({"blocks": {"style": 3}}, None, "no source is labelled with 'style'"),
        ({"blocks": {"style": 99}}, {"style": ["a", "b"] * (COUNT // 2)}, "99 wide, but reads 12"),
        ({"blocks": "style"}, None, "blocks must be names"),
        ({"blocks": {"style": {"power": 1}}}, None, "block 'style'"),
        ({"layers": (0, 1, 2, 3, 4)}, None, "12 columns, which 5 layers cannot share"),
        ({"layers": (1, 1)}, None, "layers must name each layer once"),
        ({}, ["a", "b"], r"y has 2 labels of 'y', but X has 240 rows"),
        ({}, {"style": [[1]] * COUNT}, "must have one dimension, got 2"),
        ({}, {"style": [1j] * COUNT}, "is a complex: give texts or numbers"),
        ({}, {"style": [np.inf] * COUNT}, "a label of 'style' is infinite"),
        ({"factors": ["a", "b"]}, ["x"] * COUNT, "factors must be 1 different names"),
        ({"numbers": ["b"]}, {"a": [1.0] * COUNT}, "numbers: 'b' is not among the factors a"),
        ({"numbers": ["a"]}, {"a": ["x"] * COUNT}, "numbers: a label of 'a' is a text"),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_a_sentence(options, y, message, world):
    with pytest.raises((ConfigError, LayoutError), match=message):
        BlockProjection(**options).fit(world[0], y)


def test_nothing_is_transformed_or_named_before_the_fit(world):
    for method in ("transform", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(BlockProjection(), method)(world[0])
