"""Blocks adapted to a few labels: documents stay, plain search stays, what is wrong is said."""

import json
from dataclasses import replace

import numpy as np
import pytest
from models import make_model

from subspace.blocks import unit_blocks
from subspace.data import Comparison, Rating, Record
from subspace.data.retrieval_sets import query_key
from subspace.errors import CheckpointError, ConfigError, LayoutError
from subspace.model import LinearHead, load
from subspace.model.adapt_labels import adapt_to_labels
from subspace.model.class_nearness import ClassNearness
from subspace.model.model_card import make_card

DIM, COUNT = 4, 60
RNG = np.random.default_rng(3)
VECTORS = RNG.normal(size=(COUNT, DIM)).astype(np.float32)
TEXTS = ["word " * int(n) for n in RNG.integers(3, 30, COUNT)]
HIGH = VECTORS[:, 0] > 0


def records(factor: str, labels) -> list[Record]:
    rows = range(COUNT)
    return [Record(id=f"t{n}", text=TEXTS[n], factors={factor: labels[n]}) for n in rows]


@pytest.fixture(scope="module")
def model():
    """Style carries the labels; topic serves plain search."""
    model = make_model(widths={"topic": 2, "style": 3})
    return replace(model, default_weights={"topic": 1.0, "style": 0.0})


@pytest.fixture(scope="module")
def classes(model):
    labels = ["high" if high else "low" for high in HIGH]
    return model.adapt(records("style", labels), vectors=VECTORS)


def test_classes_change_the_queries_of_their_block_and_nothing_else(model, classes):
    assert classes.projection is model.projection
    z = model.centred_on(VECTORS).project(VECTORS).array
    near, place = classes.near_classes(z), classes.layout.slice("topic")
    np.testing.assert_array_equal(near[:, place], z[:, place])
    place = classes.layout.slice("style")
    assert not np.allclose(near[:, place], z[:, place])
    same = HIGH[:, None] == HIGH[None]
    before, after = z[:, place] @ z[:, place].T, near[:, place] @ z[:, place].T
    off = ~np.eye(COUNT, dtype=bool)
    gaps = [s[same & off].mean() - s[~same].mean() for s in (before, after)]
    assert gaps[1] > 1.2 * gaps[0] > 0
    # A weight on the block means as much as before.
    spreads = [np.sqrt(s.var(axis=1).mean()) for s in (before, after)]
    assert spreads[1] == pytest.approx(spreads[0], rel=0.05)
    assert model.near_classes(z) is z  # nothing was learned there


def test_classes_have_directions(classes):
    order = classes.centred_on(VECTORS).project(VECTORS).array @ classes.direction("style:high")
    assert np.corrcoef(order, HIGH)[0, 1] > 0.5
    np.testing.assert_array_equal(classes.direction("style"), classes.direction("style:low"))


def test_numbers_turn_the_direction_of_the_factor(model):
    head = LinearHead(weight=np.array([[1, 0, 0]], np.float32), bias=None, classes=None)
    before = replace(model, heads={"style": head})
    labels = VECTORS[:, 0] + 0.1 * RNG.normal(size=COUNT)
    after = before.adapt(records("style", [float(v) for v in labels]), vectors=VECTORS)
    z = before.centred_on(VECTORS).project(VECTORS).array
    agreement = [np.corrcoef(z @ one.direction("style"), labels)[0, 1] for one in (before, after)]
    assert agreement[1] > agreement[0] + 0.1
    assert after.adapted["parent"] == before.digest != after.digest
    told = after.adapted["factors"]["style"]
    assert (told["labels"], told["comparisons"], told["origins"]) == (COUNT, 0, ["human"])
    again = before.adapt(records("style", [float(v) for v in labels]), vectors=VECTORS)
    assert again.digest == after.digest


def test_comparisons_need_no_labels(model):
    texts = [replace(record, factors={}) for record in records("style", HIGH.tolist())]
    pairs = [
        Comparison("style", f"t{a}", f"t{b}")
        for a in range(COUNT)
        for b in range(a % 7, COUNT, 7)
        if HIGH[a] and not HIGH[b]
    ]
    after = model.adapt(texts, comparisons=pairs, vectors=VECTORS)
    order = after.centred_on(VECTORS).project(VECTORS).array @ after.direction("style")
    assert np.corrcoef(order, HIGH)[0, 1] > 0.5


def rated(likes) -> list[Rating]:
    """Ratings of six hits in each of ten searches, by whether the reader likes a text."""
    return [Rating(f"q{n // 6}", f"t{n}", float(likes[n])) for n in range(COUNT)]


def test_what_readers_like_is_learned_from_their_ratings(model):
    texts = [replace(record, factors={}) for record in records("style", HIGH.tolist())]
    after = model.adapt(texts, ratings=[*rated(HIGH), Rating("q", "gone", 1.0)], vectors=VECTORS)
    order = after.centred_on(VECTORS).project(VECTORS).array @ after.direction("liked")
    assert np.corrcoef(order, HIGH)[0, 1] > 0.5
    told = after.adapted["factors"]["liked"]
    assert told["feedback"]["q9"] == {f"t{n}": float(HIGH[n]) for n in range(54, 60)}
    assert "q" not in told["feedback"]  # of a text that is not there any more
    text = str(make_card(after, name="mine"))
    assert "| q9 | t54 " in text
    assert "'liked' was adapted" not in text
    noise = np.random.default_rng(2).permutation(HIGH)
    none = model.adapt(texts, ratings=rated(noise), vectors=VECTORS)
    assert "liked" not in none.directions
    with pytest.raises(ConfigError, match="'liked' has 60 ratings, which order 0 pairs of hits"):
        model.adapt(texts, ratings=rated(np.ones(COUNT)), vectors=VECTORS)


def test_known_directions_are_chosen_among_by_few_ratings(model):
    """A reader who likes what the model calls plain needs few ratings to say so."""
    rng = np.random.default_rng(0)
    wide = replace(
        make_model(widths={"topic": 2, "style": 40}), default_weights={"topic": 1.0, "style": 0.0}
    )
    z = unit_blocks(rng.normal(size=(400, 42)), layout=wide.layout).astype(np.float32)
    head = LinearHead(rng.normal(size=(1, 40)).astype(np.float32), bias=None, classes=None)
    knows = replace(wide, heads={"style": head})
    plain = z[:, wide.layout.slice("style")] @ head.weight[0]
    texts = [Record(id=f"t{n}", text="a text") for n in range(24)]
    told = [Rating(f"q{n // 4}", f"t{n}", float(plain[n] < 0)) for n in range(24)]
    with_it, without = (
        adapt_to_labels(one, texts, z[:24], ratings=told, corpus=z) for one in (knows, wide)
    )
    agreement = np.corrcoef(z @ with_it.direction("liked"), -plain)[0, 1]
    assert agreement > 0.8
    assert with_it.adapted["factors"]["liked"]["follows"]["style"] < -0.8
    assert "liked" not in without.directions or (
        np.corrcoef(z @ without.direction("liked"), -plain)[0, 1] < agreement - 0.1
    )


def test_an_adapted_model_knows_the_texts_that_were_labelled(model):
    given = records("style", [float(v) for v in VECTORS[:, 0]])
    given[3:] = [replace(one, factors={}) for one in given[3:]]
    pairs = [Comparison("style", "t10", "t11")] * 5
    after = model.adapt(given, comparisons=pairs, vectors=VECTORS)
    texts = {query_key(TEXTS[n]) for n in (0, 1, 2, 10, 11)}
    assert set(after.adapted["texts"]) == texts
    again = after.adapt(records("mood", VECTORS[:, 1].tolist()), vectors=VECTORS)
    assert set(again.adapted["texts"]) >= texts


def test_a_factor_without_a_block_is_a_direction_over_all_blocks(model):
    after = model.adapt(records("mood", [float(h) for h in HIGH]), vectors=VECTORS)
    assert after.layout == model.layout
    direction = after.direction("mood")
    assert all(part.any() for part in after.layout.split(direction).values())
    order = after.centred_on(VECTORS).project(VECTORS).array @ direction
    assert np.corrcoef(order, HIGH)[0, 1] > 0.5


def test_the_block_of_plain_search_gets_directions_and_keeps_its_queries(model):
    labels = ["high" if high else "low" for high in HIGH]
    after = model.adapt(records("topic", labels), vectors=VECTORS)
    assert not after.nearness
    assert "topic:high" in after.directions


def test_an_adapted_model_is_saved_whole(classes, tmp_path):
    classes.save(tmp_path / "saved")
    found = load(tmp_path / "saved")
    assert found.digest == classes.digest
    assert found.adapted == classes.adapted
    z = classes.centred_on(VECTORS).project(VECTORS).array
    np.testing.assert_array_equal(found.near_classes(z), classes.near_classes(z))


def test_a_query_prefers_its_classes_by_the_formula():
    rng = np.random.default_rng(0)
    near = ClassNearness(
        weight=rng.normal(size=(3, 5)).astype(np.float32),
        bias=rng.normal(size=3).astype(np.float32),
        mean=np.full(3, 1 / 3, np.float32),
        sharpness=2.0,
        cosine=0.5,
        classes=0.25,
    )
    queries = rng.normal(size=(4, 5)).astype(np.float32)
    queries[2] = 0  # a composed query that leaves the block out
    for query, found in zip(queries, near(queries), strict=True):
        chances = [np.exp(2 * near.weight[k] @ query + near.bias[k]) for k in range(3)]
        chances = np.array(chances) / sum(chances)
        added = sum((chances[k] - 1 / 3) * near.weight[k] for k in range(3))
        wanted = 0.5 * query + 0.25 * added if query.any() else query
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["high"] * COUNT, "all 60 labels of 'style' are 'high': label texts of another class"),
        ([2.0] * COUNT, "all 60 labels of 'style' are 2: label texts that have more or less"),
        (
            ["high"] * 59 + ["low"],
            r"too few labels \(59 high, 1 low\): give 5 or more, two of each",
        ),
        ([0.3, 0.1 + 0.2] * 30, "all 60 labels of 'style' are 0.3 up to rounding: label texts"),
        (["1.0", "2.0"] * 30, "'style' are texts that read as numbers, such as '1.0'"),
        (["high", 1.0] * 30, "'style' has classes as labels, and numbers"),
        ([float(len(text.split())) for text in TEXTS], "the number of words explains all labels"),
    ],
)
def test_labels_that_tell_nothing_are_refused(model, labels, message):
    labels = [np.log(v) if "words" in message else v for v in labels]
    with pytest.raises(ConfigError, match=message):
        model.adapt(records("style", labels), vectors=VECTORS)


@pytest.mark.parametrize("change", [(1, 1.7e9), (1, 1e15), (1e-300, 0), (1e300, 0)])
def test_the_offset_and_the_unit_of_labels_do_not_count(model, change):
    scale, offset = change
    # Whole numbers, which the offset does not round.
    labels = np.argsort(np.argsort(VECTORS[:COUNT, 0])) // 10 + 1.0
    given = records("style", list(labels))
    moved = records("style", [float(label * scale + offset) for label in labels])
    before, after = (
        model.adapt(one, vectors=VECTORS[:COUNT]).heads["style"].weight for one in (given, moved)
    )
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)


def test_what_cannot_be_learned_from_is_said(model):
    for nothing in (VECTORS[:0], None):
        with pytest.raises(ConfigError, match="no labels"):
            model.adapt([], vectors=nothing)
    three = records("style", [1.0, 2.0, 3.0, *[0.0] * COUNT])[:3]
    with pytest.raises(ConfigError, match="'style' has 3 labels and 0 comparisons: give 5"):
        model.adapt(three, vectors=VECTORS[:3])
    absent = [Comparison("style", "t0", "nowhere")] * 5
    with pytest.raises(ConfigError, match="neither among the records nor in an index: nowhere"):
        model.adapt(three, comparisons=absent, vectors=VECTORS[:3])
    twice = [three[0], replace(three[1], id="t0"), three[2]]
    with pytest.raises(ConfigError, match="two texts have the id 't0'"):
        model.adapt(twice, comparisons=absent, vectors=VECTORS[:3])
    with pytest.raises(LayoutError, match="3 records, 2 vectors"):
        model.adapt(three, vectors=VECTORS[:2])


def test_labels_without_a_pattern_leave_the_factor_as_it_was(classes):
    rng = np.random.default_rng(5)
    labels = rng.choice(["one", "other"], COUNT).tolist()
    after = classes.adapt(records("style", labels), vectors=VECTORS)
    assert after.adapted["factors"]["style"]["trust"] == 0
    assert after.digest == classes.digest
    noise = classes.adapt(records("mood", rng.normal(size=COUNT).tolist()), vectors=VECTORS)
    assert noise.adapted["factors"]["mood"]["trust"] == 0
    assert "mood" not in noise.directions


def test_one_dimension_two_texts_and_blank_texts_are_no_accident():
    narrow = replace(
        make_model(widths={"topic": 2, "style": 1}), default_weights={"topic": 1.0, "style": 0.0}
    )
    head = LinearHead(weight=np.ones((1, 1), np.float32), bias=None, classes=None)
    narrow = replace(narrow, heads={"style": head})
    labels = [float(value) for value in VECTORS[:, 0]]
    assert narrow.adapt(records("style", labels), vectors=VECTORS).adapted
    blank = [replace(record, text=" ") for record in records("style", labels)[:6]]
    narrow.adapt(blank, vectors=VECTORS[:6], corpus=VECTORS[:2])


def test_few_labels_beside_enough_comparisons_are_left_out(model):
    labels = records("style", [1.0, 2.0, *[0.0] * COUNT])
    labels[2:] = [replace(record, factors={}) for record in labels[2:]]
    pairs = [Comparison("style", f"t{n}", f"t{n + 1}") for n in range(3, 40, 2)]
    told = model.adapt(labels, comparisons=pairs, vectors=VECTORS).adapted["factors"]["style"]
    assert (told["labels"], told["comparisons"]) == (0, len(pairs))


def test_numbers_of_the_nearness_belong_to_the_digest(classes):
    other = replace(classes.nearness["style"], classes=9.0)
    assert replace(classes, nearness={"style": other}).digest != classes.digest
    with pytest.raises(LayoutError, match="would change what a plain search finds in 'style'"):
        replace(classes, default_weights={"topic": 1.0, "style": 0.5})


def test_a_nearness_without_its_numbers_is_refused(classes, tmp_path):
    classes.save(tmp_path / "saved")
    manifest = json.loads((tmp_path / "saved/config.json").read_text())
    del manifest["nearness"]
    (tmp_path / "saved/config.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="lacks or garbles 'nearness'"):
        load(tmp_path / "saved")


def test_a_card_says_that_a_model_was_adapted(classes):
    assert "'style' was adapted to 60 labels" in str(make_card(classes, name="mine"))


def test_a_dimension_from_the_layers_knows_what_the_block_does_not(model):
    style = model.projection.weight[model.layout.slice("style")]
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(300, DIM)).astype(np.float32)
    missing = np.linalg.svd(style)[2][-1]  # no row of the block reads it
    texts = [f"word {n}" for n in range(300)]
    labels = vectors @ missing
    given = [
        Record(id=f"t{n}", text=texts[n], factors={"style": float(labels[n])}) for n in range(200)
    ]
    options = {"vectors": vectors[:200], "corpus": vectors}
    block, layers = (model.adapt(given, depth=one, **options) for one in ("block", "layers"))

    def agreement(one) -> float:
        z = one.centred_on(vectors).project(vectors).array
        return abs(np.corrcoef((z @ one.direction("style"))[200:], labels[200:])[0, 1])

    assert agreement(layers) > 0.85
    assert "style" not in block.heads or agreement(block) < 0.5
    told = layers.adapted["factors"]["style"]
    assert (told["trust"], told["layers"]) == (1.0, 1.0)
    # The other block stays, to the bit; an index has to be built again.
    place = model.layout.slice("topic")
    before, after = (one.project(vectors).array[:, place] for one in (model, layers))
    np.testing.assert_array_equal(before, after)
    assert layers.projection.digest != model.projection.digest
    assert block.projection.digest == model.projection.digest
    mixed = [
        replace(one, factors={"style": float(v)})
        for one, v in zip(given, rng.normal(size=200), strict=True)
    ]
    assert model.adapt(mixed, depth="layers", **options).digest == model.digest
    with pytest.raises(ConfigError, match="the depth is one of block, layers, not 'deep'"):
        model.adapt(given, depth="deep", **options)


LAYERED = 500


@pytest.fixture(scope="module")
def layered():
    """A model whose style block reads three of four dimensions, texts, and what the fourth is."""
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(27, DIM)).astype(np.float32)
    weight[:, 3] = 0
    model = make_model(widths={"topic": 3, "style": 24}, weight=weight)
    model = replace(model, default_weights={"topic": 1.0, "style": 0.0})
    vectors = rng.normal(size=(LAYERED, DIM)).astype(np.float32)
    return model, vectors


def deepen(model, vectors, codes, depth="layers", **more):
    """The model adapted to the first 400 texts, which are of these classes."""
    given = [
        Record(
            id=f"t{n}",
            text=f"word {n}",
            factors={"style": "abc"[codes[n]], **{f: float(v[n]) for f, v in more.items()}},
        )
        for n in range(400)
    ]
    return model.adapt(given, vectors=vectors[:400], corpus=vectors, depth=depth)


def told_apart(model, vectors, codes) -> float:
    """By how many deviations the score of two texts is higher if they are of one class."""
    z = model.centred_on(vectors).project(vectors).array
    place = model.layout.slice("style")
    scores = model.near_classes(z)[400:, place] @ z[:, place].T
    same = codes[400:, None] == codes[None]
    return float((scores[same].mean() - scores[~same].mean()) / scores.std())


def test_classes_are_told_apart_by_the_layers_where_the_block_cannot(layered, tmp_path):
    model, vectors = layered
    codes = np.digitize(vectors[:, 3], [-0.4, 1.2])  # unlike many of each
    block, layers = (deepen(model, vectors, codes, depth) for depth in ("block", "layers"))
    assert told_apart(block, vectors, codes) < 0.2
    assert told_apart(layers, vectors, codes) > 0.7
    assert layers.adapted["factors"]["style"]["trust"] == 1.0
    assert layers.adapted["factors"]["style"]["layers"] > 0.9
    layers.save(tmp_path / "layers")
    assert load(tmp_path / "layers").digest == layers.digest
    mixed = np.random.default_rng(2).permutation(codes)
    assert deepen(model, vectors, mixed).digest == model.digest


def test_block_and_layers_together_tell_more_than_either(layered):
    model, vectors = layered
    noise = np.random.default_rng(3).normal(size=LAYERED)
    inside = vectors[:, 0] + 0.3 * noise
    codes = np.digitize(inside + vectors[:, 3], [-0.7, 0.7])
    block, layers = (deepen(model, vectors, codes, depth) for depth in ("block", "layers"))
    assert told_apart(layers, vectors, codes) > 1.2 * told_apart(block, vectors, codes)
    assert 0.3 < layers.adapted["factors"]["style"]["layers"] < 0.9
    # Where the block alone is enough, layers that only repeat it cost little.
    only = np.digitize(inside, [-0.7, 0.7])
    assert told_apart(deepen(model, vectors, only), vectors, only) == pytest.approx(
        told_apart(deepen(model, vectors, only, "block"), vectors, only), rel=0.1
    )


def test_a_factor_without_a_block_reads_the_dimensions_that_came_from_the_layers(layered):
    model, vectors = layered
    codes = np.digitize(vectors[:, 3], [-0.4, 0.4])
    audience = vectors[:, 1] + vectors[:, 3]

    def agreement(one) -> float:
        z = one.centred_on(vectors).project(vectors).array
        return float(np.corrcoef((z @ one.direction("audience"))[400:], audience[400:])[0, 1])

    assert agreement(deepen(model, vectors, codes, "block", audience=audience)) < 0.8
    both = deepen(model, vectors, codes, audience=audience)
    assert agreement(both) > 0.85
    # Learned before: what it reads of dimensions that are replaced later counts no more.
    before = deepen(model, vectors, codes, "block", audience=audience)
    after = deepen(before, vectors, codes)
    gone = (before.projection.weight != after.projection.weight).any(axis=1)
    assert gone.sum() == 3
    assert not after.heads["audience"].weight[0, gone].any()
    np.testing.assert_array_equal(
        after.heads["audience"].weight[0, ~gone], before.heads["audience"].weight[0, ~gone]
    )


def test_classes_stay_in_a_block_that_has_no_room_for_them(layered):
    model, vectors = layered
    many = [
        Record(id=f"t{n}", text=f"word {n}", factors={"style": f"c{n % 4}"}) for n in range(400)
    ]
    adapted = model.adapt(many, vectors=vectors[:400], corpus=vectors, depth="layers")
    assert adapted.projection.digest == model.projection.digest


@pytest.mark.parametrize("around", [1, 3])
def test_few_texts_around_do_not_scale_the_classes_of_the_layers(layered, around):
    model, vectors = layered
    codes = np.digitize(vectors[:, 3], [-0.4, 0.4])
    given = [
        Record(id=f"t{n}", text=f"word {n}", factors={"style": "abc"[codes[n]]}) for n in range(400)
    ]
    few, many = (
        model.adapt(given, vectors=vectors[:400], corpus=vectors[:count], depth="layers")
        for count in (around, 400)
    )
    near = [one.nearness["style"] for one in (few, many)]
    assert near[0].cosine == pytest.approx(near[1].cosine, rel=0.3)
    assert near[0].classes == pytest.approx(near[1].classes, rel=0.5)


def test_a_direction_of_numbers_from_the_layers_outlives_a_second_adaptation(layered):
    model, vectors = layered
    labels = vectors[:, 3].astype(float)

    def adapt(start, rows):
        given = [Record(id=f"t{n}", text=f"word {n}", factors={"style": labels[n]}) for n in rows]
        return start.adapt(given, vectors=vectors[rows], corpus=vectors, depth="layers")

    def agreement(one) -> float:
        z = one.centred_on(vectors).project(vectors).array
        return float(np.corrcoef((z @ one.direction("style"))[400:], labels[400:])[0, 1])

    once = adapt(model, np.arange(300))
    again = adapt(once, np.arange(300, 330))
    assert agreement(once) > 0.85
    assert agreement(again) > 0.85
    changed = (once.projection.weight != again.projection.weight).any(axis=1)
    own = (model.projection.weight != once.projection.weight).any(axis=1)
    assert not (changed & own).any()  # not the dimension that carries what was learned
