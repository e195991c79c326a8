"""Weights: 3 x B tables, from presets, blocks, text, YAML; what cannot count is refused by name."""

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout
from subspace.errors import LayoutError, WeightsError
from subspace.retrieval import PRESETS, Weights

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})

# The published experiment's mixes: recency, importance, relevance.
PUBLISHED = {
    "pure_relevance": (0.05, 0.05, 0.90),
    "pure_recency": (0.85, 0.05, 0.10),
    "pure_importance": (0.05, 0.85, 0.10),
    "relevance_heavy": (0.15, 0.15, 0.70),
    "recency_heavy": (0.60, 0.15, 0.25),
    "importance_heavy": (0.15, 0.65, 0.20),
    "recency_relevance": (0.40, 0.10, 0.50),
    "importance_relevance": (0.10, 0.40, 0.50),
    "recency_importance": (0.40, 0.45, 0.15),
    "balanced": (0.33, 0.33, 0.34),
    "diversity_seeker": (0.45, 0.45, 0.10),
    "exploration": (0.25, 0.25, 0.50),
}


def relevance(**values: float) -> Weights:
    return Weights.make(layout=LAYOUT, blocks=values)


def table(weights: Weights) -> np.ndarray:
    return np.array([weights.recency, weights.importance, weights.relevance])


# What a table is made of.


def test_there_are_the_published_presets_and_no_other():
    assert dict(PRESETS) == PUBLISHED
    assert all(sum(mix) == pytest.approx(1, abs=1e-12) for mix in PRESETS.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_with_block_weights_is_their_outer_product(name):
    blocks = {"topic": 0.7, "tone": 0.1}
    weights = Weights.make(layout=LAYOUT, preset=name, blocks=blocks)
    np.testing.assert_allclose(table(weights), np.outer(PUBLISHED[name], [0.7, 0, 0.1]), atol=1e-15)
    assert weights == Weights.make(layout=LAYOUT, riv=PUBLISHED[name], blocks=blocks)
    # Counter-check: neither factor goes without saying.
    assert weights != Weights.make(layout=LAYOUT, preset=name)
    assert weights != relevance(**blocks)


mixes = st.tuples(*[st.just(0.0) | st.floats(1e-3, 10)] * 3).filter(any)


@settings(max_examples=50, deadline=None)
@given(riv=mixes, blocks=mixes)
def test_every_table_that_is_made_is_an_outer_product(riv, blocks):
    named = dict(zip(LAYOUT, blocks, strict=True))
    weights = Weights.make(layout=LAYOUT, riv=riv, blocks=named)
    np.testing.assert_allclose(table(weights), np.outer(riv, blocks), rtol=1e-12)
    assert weights.uses_history == (riv[0] > 0 or riv[1] > 0)


def test_left_out_block_weights_are_equal_and_sum_to_one():
    weights = Weights.make(layout=LAYOUT, preset="balanced")
    np.testing.assert_allclose(table(weights).sum(axis=1), PUBLISHED["balanced"])
    assert len(set(weights.recency)) == 1


def test_left_out_parts_are_relevance_alone():
    assert not relevance(topic=1).uses_history
    assert not Weights.equal(LAYOUT).uses_history
    assert Weights.equal(LAYOUT).relevance == pytest.approx([1 / 3] * 3)


def test_relevance_alone_drops_the_rest_and_is_nothing_where_there_is_none():
    weights = Weights.make(layout=LAYOUT, preset="balanced", blocks={"topic": 1})
    assert weights.relevance_alone() == relevance(topic=0.34)
    with pytest.raises(WeightsError, match="at least one weight must be above 0"):
        Weights.make(layout=LAYOUT, riv=(1, 1, 0)).relevance_alone()


def test_a_preset_and_three_numbers_at_once_are_refused():
    with pytest.raises(WeightsError, match="riv or preset, not both"):
        Weights.make(layout=LAYOUT, riv=(1, 1, 1), preset="balanced")


# What folding does.


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_folded_query_is_the_sum_written_out_block_by_block(seed):
    rng = np.random.default_rng(seed)
    query, r, m, document = rng.normal(size=(4, LAYOUT.dim)).astype(np.float32)
    weights = Weights(LAYOUT, *(tuple(row) for row in rng.uniform(0.1, 2, size=(3, 3)).tolist()))
    expected = 0.0
    for position, name in enumerate(LAYOUT):
        place = LAYOUT.slice(name)
        for of_part, vector in zip(table(weights), (r, m, query), strict=True):
            expected += of_part[position] * float(vector[place] @ document[place])
    folded = weights.fold(query, recency=r, importance=m)
    assert float(folded @ document) == pytest.approx(expected, abs=1e-4)
    np.testing.assert_array_equal(weights.fold(query), query * weights.per_dimension("relevance"))


def test_folding_a_batch_folds_each_query():
    queries = np.random.default_rng(0).normal(size=(4, LAYOUT.dim)).astype(np.float32)
    trace = np.random.default_rng(1).normal(size=LAYOUT.dim).astype(np.float32)
    weights = Weights.make(layout=LAYOUT, preset="balanced", blocks={"topic": 1, "tone": 2})
    folded = weights.fold(queries, recency=trace, importance=-trace)
    for query, row in zip(queries, folded, strict=True):
        np.testing.assert_array_equal(weights.fold(query, recency=trace, importance=-trace), row)
    assert folded.dtype == np.float32


# Text.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" style = 0.5,topic=1e-1 ", relevance(topic=0.1, style=0.5)),
        ("riv=0.15,0.15,0.7", Weights.make(layout=LAYOUT, riv=(0.15, 0.15, 0.7))),
        ("preset=balanced", Weights.make(layout=LAYOUT, preset="balanced")),
        (
            "topic=0.7,style=0.1,riv=0.15,0.15,0.7",
            Weights.make(layout=LAYOUT, riv=(0.15, 0.15, 0.7), blocks={"topic": 0.7, "style": 0.1}),
        ),
        (
            "preset = recency_heavy , tone=2",
            Weights.make(layout=LAYOUT, preset="recency_heavy", blocks={"tone": 2}),
        ),
        (
            "tone=2,preset=recency_heavy",
            Weights.make(layout=LAYOUT, preset="recency_heavy", blocks={"tone": 2}),
        ),
        (
            "topic=1,riv=1, 2 ,3,style=2",
            Weights.make(layout=LAYOUT, riv=(1, 2, 3), blocks={"topic": 1, "style": 2}),
        ),
    ],
)
def test_text_says_the_same_as_python(text, expected):
    assert Weights.parse(text, layout=LAYOUT) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        (",", "''"),
        ("topic", "'topic'"),
        ("topic=", "'topic='"),
        ("topic=high", "'topic=high'"),
        ("topic=1,,style=1", "''"),
        ("topic=1,", "''"),
        ("topic=1,riv=1,1,1,", "''"),
        ("topic=1,,riv=1,1,1", "''"),
        ("topic=1;style=2", "'topic=1;style=2'"),
        ("topic=1=2", "'topic=1=2'"),
        ("topic=0,5", "'5'"),
        ("riv=0.1,0.2", "'0.2'"),
        ("riv=0.1,0.2,0.3,0.4", "'0.4'"),
        ("riv=a,b,c", "'a'"),
        ("balanced", "'balanced'"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_the_part_that_cannot(text, named):
    with pytest.raises(WeightsError, match=r"must read like topic=0\.7,style=0\.1") as caught:
        Weights.parse(text, layout=LAYOUT)
    assert f"cannot read {named}" in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_text_with_a_weight_that_cannot_count_is_refused(value):
    with pytest.raises(WeightsError, match=f"'style' must be finite and 0 or more, got {value}"):
        Weights.parse(f"topic=1,style={value}", layout=LAYOUT)
    with pytest.raises(WeightsError, match=f"importance must be finite and 0 or more, got {value}"):
        Weights.parse(f"riv=1,{value},1", layout=LAYOUT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topic=1,style=1,topic=1", "'topic' has two weights"),
        ("riv=1,1,1,topic=1,riv=1,1,1", "'riv' is given twice"),
        ("preset=balanced,preset=balanced", "'preset' is given twice"),
        ("preset=balanced,riv=1,1,1", "riv or preset, not both"),
        ("preset=unbalanced", "no preset 'unbalanced'; the presets are pure_relevance, "),
        ("mood=0", "no block 'mood'; the blocks are topic, style, tone"),
        ("topic=0,preset=balanced", "at least one weight must be above 0"),
        ("riv=0,0,0", "at least one of the three weights of riv must be above 0"),
    ],
)
def test_text_that_names_what_it_must_not_is_refused(text, message):
    with pytest.raises(WeightsError, match=message):
        Weights.parse(text, layout=LAYOUT)


@settings(max_examples=50, deadline=None)
@given(name=st.text(min_size=1, max_size=5), value=st.floats(0.001, 1000))
@example(name=" topic", value=1.0)
@example(name="topic\n", value=1.0)
@example(name="riv", value=1.0)
@example(name="preset", value=1.0)
@example(name="recency", value=1.0)
@example(name="blocks", value=1.0)
@example(name="mypreset", value=1.0)
@example(name="deriv", value=1.0)
@example(name="a;riv", value=1.0)
def test_every_block_that_a_layout_allows_can_be_given_a_weight_as_text(name, value):
    try:
        layout = BlockLayout.from_widths({"other": 1, name: 1})
    except LayoutError:
        return
    assume(name != "other")
    expected = Weights.make(layout=layout, blocks={name: value})
    assert Weights.parse(f"{name}={value!r}", layout=layout) == expected
    assert Weights.from_mapping({name: value}, layout=layout) == expected
    both = Weights.parse(f"other=2,{name}={value!r}", layout=layout)
    assert both == Weights.make(layout=layout, blocks={"other": 2, name: value})


def test_where_a_block_is_called_riv_its_weight_is_meant():
    layout = BlockLayout.from_widths({"riv": 2, "preset": 2})
    assert Weights.parse("riv=0.5,preset=2", layout=layout).relevance == (0.5, 2)
    with pytest.raises(WeightsError, match="cannot read '2'"):
        Weights.parse("riv=1,2,3", layout=layout)
    weights = Weights.from_mapping({"riv": [1, 2, 3], "blocks": {"riv": 1}}, layout=layout)
    assert weights == Weights.make(layout=layout, riv=(1, 2, 3), blocks={"riv": 1})


# Mappings and files.


layouts = st.sampled_from(
    [
        LAYOUT,
        BlockLayout.from_widths({"only": 3}),
        BlockLayout.from_widths({"recency": 2, "topic": 1}),
        BlockLayout.from_widths({"riv": 1, "preset": 1, "blocks": 1, "relevance": 1}),
    ]
)


@settings(max_examples=50, deadline=None)
@given(layout=layouts, data=st.data())
def test_a_table_survives_being_written_out_and_read(layout, data):
    numbers = st.just(0.0) | st.floats(1e-30, 1e30)
    rows = [tuple(data.draw(numbers) for _ in layout) for _ in range(3)]
    assume(any(map(any, rows)))
    weights = Weights(layout, *rows)
    assert Weights.from_mapping(weights.as_dict(), layout=layout) == weights
    assert Weights.from_mapping(yaml.safe_load(yaml.safe_dump(weights.as_dict())), layout=layout)


def test_parts_left_out_of_a_table_count_nothing():
    weights = Weights.from_mapping({"recency": {"tone": 1}}, layout=LAYOUT)
    np.testing.assert_array_equal(table(weights), [[0, 0, 1], [0, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("topic: 0.7\nstyle: 1", relevance(topic=0.7, style=1)),
        ("preset: balanced", Weights.make(layout=LAYOUT, preset="balanced")),
        (
            "riv: [0.1, 0.2, 0.7]\nblocks: {topic: 1}",
            Weights.make(layout=LAYOUT, riv=(0.1, 0.2, 0.7), blocks={"topic": 1}),
        ),
        (
            "relevance: {topic: 1}\nrecency: {style: 0.5}",
            Weights(LAYOUT, (0, 0.5, 0), (0, 0, 0), (1, 0, 0)),
        ),
        # YAML 1.1 takes this number for a text.
        ("topic: 1e-1", relevance(topic=0.1)),
    ],
)
def test_a_file_says_the_same_as_python(content, expected, tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_text(content)
    assert Weights.read(path, layout=LAYOUT) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"mood: 1", "no block 'mood'"),
        (b"topic: {recency: 1}", "the weight of block 'topic' must be a number"),
        (b"topic: yes", "the weight of block 'topic' must be a number, got True"),
        (b"preset: [balanced]", "no preset"),
        (b"preset: balanced\nmood: 1", "'mood' does not go with blocks, preset, riv"),
        (b"recency: {topic: 1}\nblocks: {topic: 1}", "does not go with"),
        (b"recency: {mood: 1}", "no block 'mood'"),
        (b"recency: 1", "weights by block name are needed, got 1"),
        (b"riv: 0.5", "riv must be three numbers"),
        (b"riv: '1,1,1'", "riv must be three numbers"),
        (b"riv: [1, 1]", "riv must be three numbers"),
        (b"riv: [1, .nan, 1]", "importance must be finite and 0 or more, got nan"),
        (b"- topic", "must hold a mapping"),
        (b"", "must hold a mapping"),
        (b"topic: [1", "cannot read weights from"),
        (b"\xff\xfe\x00", "cannot read weights from"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_its_name(content, message, tmp_path):
    path = tmp_path / "weights.yaml"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        Weights.read(path, layout=LAYOUT)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path):
    with pytest.raises(WeightsError, match=r"cannot read weights from .*nowhere\.yaml"):
        Weights.read(tmp_path / "nowhere.yaml", layout=LAYOUT)


# What is refused.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.1, 1e39])
@pytest.mark.parametrize("part", ["recency", "importance", "relevance"])
def test_a_weight_that_cannot_count_is_refused_with_its_place_and_value(part, value):
    """1e39 is finite, but not in the precision that vectors have."""
    with pytest.raises(WeightsError) as caught:
        Weights.from_mapping({part: {"topic": 0.5, "style": value}}, layout=LAYOUT)
    assert f"'style' ({part})" in str(caught.value)
    assert str(value) in str(caught.value)
    assert "'topic'" not in str(caught.value)


@pytest.mark.parametrize("value", [3e38, 1e33, 1e-33, 1e-50, 5e-324])
def test_a_weight_that_float32_cannot_search_with_is_refused_with_its_block_and_value(value):
    """3e38 overflows in a sum of blocks; 1e-50 is 0 in float32, and all scores with it."""
    with pytest.raises(WeightsError, match=r"'style' must be 0 or between 1e-32 and 3e\+32"):
        relevance(topic=0.5, style=value)


def test_a_product_that_float32_cannot_search_with_is_refused():
    with pytest.raises(WeightsError, match=r"'style' \(recency\) must be 0 or between"):
        Weights.make(layout=LAYOUT, riv=(1e-20, 0, 1), blocks={"style": 1e-20})


@pytest.mark.parametrize(
    "value",
    ["high", "", None, [1, 2], {}, True, False, np.True_, 10**400, 1j],
    ids=["text", "empty", "None", "list", "mapping", "yes", "no", "numpy's", "huge", "complex"],
)
def test_a_weight_that_is_no_number_is_refused_with_its_block_and_value(value):
    with pytest.raises(
        WeightsError, match="the weight of block 'style' must be a number"
    ) as caught:
        Weights.from_mapping({"topic": 1.0, "style": value}, layout=LAYOUT)
    assert repr(value)[:50] in str(caught.value)


def test_a_number_of_numpy_is_a_weight():
    assert relevance(topic=np.float32(0.5), style=np.int64(2)) == relevance(topic=0.5, style=2)


def test_weights_that_are_all_zero_are_refused_with_the_blocks():
    for values in ({}, {"topic": 0.0}, {"topic": 0.0, "style": -0.0, "tone": 0.0}):
        with pytest.raises(WeightsError, match="above 0; the blocks are topic, style, tone"):
            relevance(**values)
    with pytest.raises(WeightsError, match="above 0; the blocks are topic, style, tone"):
        Weights(LAYOUT, (0.0,) * 3, (0.0,) * 3, (0.0,) * 3)


def test_recency_or_importance_may_be_all_that_counts():
    """Counter-check: relevance may be 0, if something else is not."""
    assert Weights.make(layout=LAYOUT, riv=(1, 0, 0)).uses_history
    assert Weights.make(layout=LAYOUT, riv=(0, 1, 0)).uses_history


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(WeightsError, match="no block 'mood'; the blocks are topic, style, tone"):
        relevance(topic=1, mood=0.5)
    with pytest.raises(WeightsError, match=r"no preset 'x'; the presets are .*exploration"):
        Weights.make(layout=LAYOUT, preset="x")


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.0), (1.0,) * 4, ()])
@pytest.mark.parametrize("part", ["recency", "importance", "relevance"])
def test_another_number_of_weights_than_blocks_is_refused_by_the_part(part, values):
    rows = dict.fromkeys(("recency", "importance", "relevance"), (1.0,) * 3)
    with pytest.raises(WeightsError, match=f"{len(values)} {part} weights for the 3 blocks"):
        Weights(LAYOUT, **{**rows, part: values})


# Weights that count alike in every block.


def test_scaled_weights_change_rankings_alike_in_every_block():
    """Weight times spread is what a block changes a ranking by."""
    weights = Weights.make(layout=LAYOUT, riv=(1, 2, 3))
    spread = {"topic": 0.5, "style": 0.01, "tone": 0.1}
    scaled = weights.scaled({name: spread["topic"] / value for name, value in spread.items()})
    for row in table(scaled):
        changes = [w * spread[name] for w, name in zip(row, LAYOUT, strict=True)]
        assert changes == pytest.approx([changes[0]] * 3)
    assert table(scaled)[:, 0].tolist() == table(weights)[:, 0].tolist()
    # Counter-check: left alone, one block has all the say.
    assert weights.relevance[0] * spread["topic"] > 40 * weights.relevance[1] * spread["style"]


def test_scales_change_no_weight_that_is_zero_and_no_block_but_their_own():
    weights = relevance(topic=0.5, tone=2)
    scaled = weights.scaled({"topic": 1, "style": 9, "tone": 0.25})
    assert scaled == relevance(topic=0.5, tone=0.5)
    assert not scaled.uses_history
    with pytest.raises(WeightsError, match="of block 'tone'"):
        weights.scaled({"topic": 1, "style": 1, "tone": 1e33})


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text(st.sampled_from("topic=style,;riv0.1e9-preset \n"), max_size=40))
def test_any_text_is_weights_or_one_sentence(text):
    try:
        found = Weights.parse(text, layout=LAYOUT)
    except WeightsError as error:
        assert str(error)
    else:
        assert np.isfinite(table(found)).all()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary() | st.text(st.sampled_from("topic: 0.7\n[]{}&*!-9?|"), max_size=30).map(str.encode)
)
@example(b"topic: 2020-99-99")
@example(b"[" * 3000)
@example(b"topic: 1" + b"0" * 5000)
@example(b"? [topic]\n: 1")
@example("\ufefftopic: 1".encode())
def test_any_file_is_weights_or_one_sentence(tmp_path, content):
    (tmp_path / "w.yaml").write_bytes(content)
    try:
        Weights.read(tmp_path / "w.yaml", layout=LAYOUT)
    except WeightsError as error:
        assert "w.yaml" in str(error)
