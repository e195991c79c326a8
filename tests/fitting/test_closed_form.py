"""Each block holds its own factor and nothing linear of the others: Belrose et al. 2023."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from subspace.blocks import BlockLayout, unit
from subspace.data.labels import Column, Labels
from subspace.errors import ConfigError
from subspace.fitting.closed_form import ClosedForm, Solution, guard_directions, solve_closed_form
from subspace.fitting.moments import RewriteStatistics, SourceStatistics, collect_statistics

DIM = 24
TOPICS, STYLES = 4, 3
WIDTHS = {"topic": 6, "style": 4}


@dataclass(frozen=True)
class Texts:
    """Texts of one source: embeddings and the class of each by factor."""

    x: np.ndarray
    codes: dict[str, np.ndarray]

    def statistics(self) -> SourceStatistics:
        labels = Labels(
            source="test",
            columns={
                name: Column(codes=codes, class_count=int(codes.max()) + 1)
                for name, codes in self.codes.items()
            },
            groups=np.full(len(self.x), -1),
            splits=np.zeros(len(self.x), dtype=np.int64),
        )
        return collect_statistics(self.x, rows=np.arange(len(self.x)), labels=labels)


class World:
    """Two sources: x = rotation of (topic part, style part, noise), plus the source's own place."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.rotation = np.linalg.qr(self.rng.normal(size=(DIM, DIM)))[0]
        self.places = {"one": self.rng.normal(size=DIM), "two": self.rng.normal(size=DIM)}
        # Topic moves the first five dimensions, style the next four; style is the weaker one.
        self.topics = np.zeros((TOPICS, DIM))
        self.topics[:, :5] = 3 * self.rng.normal(size=(TOPICS, 5))
        self.styles = np.zeros((STYLES, DIM))
        self.styles[:, 5:9] = 2 * self.rng.normal(size=(STYLES, 4))

    def draw(self, source: str, count: int = 1200) -> Texts:
        topic, style = (self.rng.integers(0, classes, count) for classes in (TOPICS, STYLES))
        noise = self.rng.normal(size=(count, DIM))
        x = (self.topics[topic] + self.styles[style] + noise) @ self.rotation
        return Texts(
            x=(x + self.places[source]).astype(np.float32), codes={"topic": topic, "style": style}
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def train(world: World) -> dict[str, Texts]:
    return {source: world.draw(source) for source in world.places}


@pytest.fixture(scope="module")
def fresh(world: World) -> dict[str, Texts]:
    return {source: world.draw(source) for source in world.places}


@pytest.fixture(scope="module")
def statistics(train: dict[str, Texts]) -> dict[str, SourceStatistics]:
    return {source: texts.statistics() for source, texts in train.items()}


def solve(statistics, *, widths=WIDTHS, raw=slice(0, DIM), **settings) -> Solution:
    return solve_closed_form(
        statistics,
        layout=BlockLayout.from_widths(widths),
        settings=ClosedForm(**settings),
        raw=raw,
    )


def rows(solution: Solution, block: str) -> np.ndarray:
    projection = solution.projection
    return projection.weight[projection.layout.slice(block)].astype(np.float64)


def read(train_x: np.ndarray, test_x: np.ndarray, *, train: Texts, test: Texts, factor: str):
    """Test accuracy of a probe trained on the training texts."""
    probe = LogisticRegression(max_iter=1000).fit(train_x, train.codes[factor])
    return probe.score(test_x, test.codes[factor])


@pytest.mark.parametrize("source", ["one", "two"])
@pytest.mark.parametrize(("block", "other"), [("topic", "style"), ("style", "topic")])
def test_a_block_keeps_its_factor_and_loses_the_other_that_was_readable_before(
    source, block, other, train, fresh, statistics
):
    before = {"train": train[source].x, "test": fresh[source].x}
    project = solve(statistics).projection
    after = {split: project.layout.split(project(x))[block] for split, x in before.items()}
    parts = {"train": train[source], "test": fresh[source]}
    chance = 1 / (STYLES if other == "style" else TOPICS)
    assert read(*before.values(), **parts, factor=other) > chance + 0.4
    assert read(*after.values(), **parts, factor=other) < chance + 0.06
    own_before = read(*before.values(), **parts, factor=block)
    assert read(*after.values(), **parts, factor=block) > own_before - 0.05


def test_no_block_lies_along_its_guards_and_without_guard_every_block_does(statistics):
    guarded, free = solve(statistics), solve(statistics, guard=0)
    for block in WIDTHS:
        closed = guarded.guards[block]
        assert closed.shape[1] > 0
        assert free.guards[block].shape == (DIM, 0)
        scale = np.linalg.norm(rows(guarded, block))
        assert np.abs(rows(guarded, block) @ closed).max() < 1e-5 * scale
        assert np.abs(rows(free, block) @ closed).max() > 1e-3 * np.linalg.norm(rows(free, block))


def test_the_guards_hold_what_tells_the_other_factors_classes_apart(statistics):
    """So what a block shows of another factor's class means is gone, not only its direction."""
    guarded, free = solve(statistics, guard=1), solve(statistics, guard=0)
    for block in WIDTHS:
        classes = guard_directions(statistics, block=block)
        held = []
        for solution in (guarded, free):
            w = rows(solution, block)
            held.append(np.square(w @ classes).sum() / np.square(w).sum())
        assert held[0] < 1e-10
        assert held[1] > 1e-5


def test_guards_are_orthonormal_and_no_wider_than_the_other_factors_classes(statistics):
    for block, classes in (("topic", STYLES), ("style", TOPICS)):
        closed = solve(statistics).guards[block]
        np.testing.assert_allclose(closed.T @ closed, np.eye(closed.shape[1]), atol=1e-10)
        assert closed.shape[1] <= len(statistics) * (classes - 1)


def test_a_full_guard_closes_the_directions_between_classes_and_no_other():
    """Rounding must not add directions: there are classes - 1 of them per source."""
    for seed in range(10):
        world = World(seed)
        statistics = {source: world.draw(source, 300).statistics() for source in world.places}
        guards = solve(statistics, widths={"topic": 3, "style": 2}, guard=1).guards
        assert guards["topic"].shape[1] == len(statistics) * (STYLES - 1)
        assert guards["style"].shape[1] == len(statistics) * (TOPICS - 1)


def test_a_factor_with_one_class_closes_no_direction_to_the_others(train):
    """Nothing can be read that does not vary: the same as if it were not labelled at all."""
    one_class = np.zeros(len(train["one"].x), dtype=np.int64)
    topic = train["one"].codes["topic"]
    with_it = Texts(x=train["one"].x, codes={"topic": topic, "style": one_class})
    without = Texts(x=train["one"].x, codes={"topic": topic})
    solution = solve({"one": with_it.statistics()}, widths={"topic": 6})
    alone = solve({"one": without.statistics()}, widths={"topic": 6})
    assert solution.guards["topic"].shape == alone.guards["topic"].shape == (DIM, 0)
    np.testing.assert_array_equal(solution.projection.weight, alone.projection.weight)


def test_a_source_does_not_place_its_texts(train, statistics):
    """Shifting one source moves mu and not W: what tells sources apart counts nowhere."""
    moved = Texts(x=train["one"].x + np.float32(64), codes=train["one"].codes)
    first = solve(statistics).projection
    other = solve({"one": moved.statistics(), "two": statistics["two"]}).projection
    np.testing.assert_allclose(np.abs(other.weight), np.abs(first.weight), atol=1e-3)
    np.testing.assert_allclose(other.mean - first.mean, 32, rtol=1e-5)


@pytest.mark.parametrize("energy", [0.0, 0.5, 1.0])
def test_rows_stand_in_the_order_of_what_they_tell_about_the_factor(energy, statistics):
    """Between-class over total variance falls from row to row; its power is the row's size."""
    shrinkage = 0.05
    w = rows(solve(statistics, shrinkage=shrinkage, energy=energy), "style")[: STYLES - 1]
    total = np.mean([source.covariance for source in statistics.values()], axis=0)
    shrunk = (1 - shrinkage) * total + shrinkage * np.trace(total) / DIM * np.eye(DIM)
    between = np.mean(
        [s.factors["style"].between / np.trace(s.covariance) for s in statistics.values()], axis=0
    )
    size = np.einsum("id,de,ie->i", w, shrunk, w)
    strength = np.einsum("id,de,ie->i", w, between, w) / size
    assert (np.diff(strength) < 0).all()
    np.testing.assert_allclose(size, (strength / strength[0]) ** (2 * energy), rtol=1e-4)


@pytest.mark.parametrize("energy", [0.0, 0.5])
def test_rows_without_information_are_zero(energy, statistics):
    """Two sources of three styles have four directions between classes at most."""
    w = rows(solve(statistics, widths={"topic": 4, "style": 8}, energy=energy), "style")
    assert np.linalg.norm(w[:4], axis=1).min() > 0
    assert not w[4:].any()


def test_the_content_blocks_rows_are_orthonormal(statistics):
    w = rows(solve(statistics), "topic")
    np.testing.assert_allclose(w @ w.T, np.eye(len(w)), atol=1e-6)


def test_the_content_block_keeps_the_raw_embedding_alone(statistics):
    """Of two layers side by side only the raw one decides; with share 0 the factor does."""
    half = slice(DIM // 2, DIM)
    by_raw = rows(solve(statistics, raw=half, content_share=1.0, guard=0), "topic")
    assert np.abs(by_raw[:, : DIM // 2]).max() < 1e-6
    by_factor = rows(solve(statistics, raw=half, content_share=0.0, guard=0), "topic")
    assert np.abs(by_factor[:, : DIM // 2]).max() > 0.1


def test_a_block_may_have_a_shrinkage_of_its_own(statistics):
    settings = {"content": "", "guard": 0.5}
    low, high = (solve(statistics, shrinkage=share, **settings) for share in (0.1, 0.9))
    mixed = solve(statistics, shrinkage=0.9, block_shrinkage={"topic": 0.1}, **settings)
    assert (rows(mixed, "topic") == rows(low, "topic")).all()
    assert (rows(mixed, "style") == rows(high, "style")).all()
    assert not np.allclose(rows(low, "topic"), rows(high, "topic"))


def test_a_block_reads_the_layers_named_and_keeps_its_guard_there(statistics):
    """It read all of them before, and the other block still does."""
    half = DIM // 2
    last = slice(half, DIM)
    settings = {"raw": last, "content": "", "guard": 1.0}
    widths = {"topic": 3, "style": 2}
    everything = solve(statistics, widths=widths, **settings)
    first = solve(statistics, widths=widths, reads={"style": [0]}, **settings)
    assert np.abs(rows(everything, "style")[:, last]).max() > 0.1
    assert (rows(first, "style")[:, last] == 0).all()
    assert (rows(first, "topic") == rows(everything, "topic")).all()
    both = solve(statistics, widths=widths, reads={"style": [1, 0]}, **settings)
    assert (rows(both, "style") == rows(everything, "style")).all()
    w, guard = rows(first, "style"), first.guards["style"]
    assert np.linalg.matrix_rank(w) == 2
    np.testing.assert_allclose(w @ guard, 0, atol=1e-5)
    for source in statistics.values():
        moved = source.factors["topic"].means @ w.T
        held = source.factors["style"].means @ w.T
        assert np.abs(moved).max() < 0.02 * np.abs(held).max()


def test_mu_is_the_mean_of_all_training_texts(train, statistics):
    everything = np.concatenate([texts.x for texts in train.values()]).astype(np.float64)
    mean = solve(statistics).projection.mean
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-5)


def test_solving_twice_gives_the_same_bits(statistics):
    first, again = solve(statistics), solve(statistics)
    np.testing.assert_array_equal(first.projection.weight, again.projection.weight)
    np.testing.assert_array_equal(first.projection.mean, again.projection.mean)
    for block in WIDTHS:
        np.testing.assert_array_equal(first.guards[block], again.guards[block])


@pytest.mark.parametrize("classes", [3, 40], ids=["few classes", "more classes than dimensions"])
@pytest.mark.parametrize("block", ["topic", "style"])
def test_guard_directions_measure_the_between_class_variance_of_the_other_factors(classes, block):
    rng = np.random.default_rng(0)
    sources = {}
    for source in ("one", "two"):
        codes = {name: rng.integers(0, classes, 400) for name in ("topic", "style", "tone")}
        if source == "two":
            del codes["tone"]
        sources[source] = Texts(x=rng.normal(size=(400, DIM)).astype(np.float32), codes=codes)
    statistics = {source: texts.statistics() for source, texts in sources.items()}
    w = rng.normal(size=(5, DIM))

    shares = []
    for texts in sources.values():
        x = texts.x.astype(np.float64)
        spread = np.square(x - x.mean(axis=0)).sum(axis=1).mean()
        for factor, codes in texts.codes.items():
            if factor != block:
                between = 0.0
                for code in np.unique(codes):
                    distance = w @ (x[codes == code].mean(axis=0) - x.mean(axis=0))
                    between += (codes == code).mean() * distance @ distance
                shares.append(between / spread)
    directions = guard_directions(statistics, block=block)
    assert directions.shape[1] <= DIM
    np.testing.assert_allclose(np.square(w @ directions).sum(), np.mean(shares), rtol=1e-6)


def test_without_another_factor_there_is_nothing_to_guard(train):
    alone = Texts(x=train["one"].x, codes={"topic": train["one"].codes["topic"]})
    statistics = {"one": alone.statistics()}
    assert not guard_directions(statistics, block="topic").any()
    assert guard_directions(statistics, block="style").any()


def test_a_block_without_labels_is_refused_with_the_factors_there_are(statistics):
    with pytest.raises(ConfigError, match=r"'tone'.*name blocks after the factors style, topic"):
        solve(statistics, widths={"topic": 4, "tone": 2})


def test_a_block_wider_than_the_guard_leaves_is_refused_with_what_to_change(statistics):
    widths = {"topic": 4, "style": DIM - 1}
    with pytest.raises(ConfigError, match=r"'style' is 23 wide.*narrower, or lower `guard`"):
        solve(statistics, widths=widths)
    solve(statistics, widths=widths, guard=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shrinkage", 0.0),
        ("shrinkage", 1.1),
        ("shrinkage", float("nan")),
        ("guard", -0.1),
        ("guard", 1.1),
        ("guard", float("nan")),
        ("content_share", -0.1),
        ("content_share", 1.1),
        ("content_share", float("nan")),
        ("energy", -0.1),
        ("energy", float("nan")),
        ("energy", float("inf")),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name_and_value(name, value):
    with pytest.raises(ConfigError, match=rf"{name} must be .* got {value}"):
        ClosedForm(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("shrinkage", 1), ("guard", 0), ("guard", 1), ("content_share", 1)]
)
def test_the_ends_of_the_ranges_can_be_used(name, value, statistics):
    assert np.isfinite(solve(statistics, **{name: value}).projection.weight).all()


def test_rows_beyond_the_rank_are_zero_and_the_others_lead(statistics):
    whole = solve(statistics, energy=0.5)
    cut = solve(statistics, energy=0.5, ranks={"style": 2})
    rows = cut.projection.weight[whole.projection.layout.slice("style")]
    expected = whole.projection.weight[whole.projection.layout.slice("style")]
    np.testing.assert_allclose(rows[:2], expected[:2], rtol=1e-5)
    assert not rows[2:].any()


@pytest.mark.parametrize("spread", [0.01, 0.05])
def test_scores_of_random_texts_spread_as_asked_for(statistics, fresh, spread):
    wide = BlockLayout.from_widths({"topic": 7, "style": 5})
    settings = ClosedForm(spread=spread, ranks={"topic": 3, "style": 2}, content="")
    one = {"one": statistics["one"]}
    solution = solve_closed_form(one, layout=wide, settings=settings, raw=slice(0, DIM))
    x = fresh["one"].x
    for block in wide.split(solution.projection(x)).values():
        scores = block[:600] @ block[600:].T
        assert scores.std() == pytest.approx(spread, rel=0.5)
    # Counter-check: without the constant, cosines take all the room there is.
    free = solve_closed_form(
        one,
        layout=wide,
        settings=ClosedForm(ranks={"topic": 3, "style": 2}, content=""),
        raw=slice(0, DIM),
    )
    for block in wide.split(free.projection(x)).values():
        assert (block[:600] @ block[600:].T).std() > 0.3


def test_the_constant_makes_cosine_fall_with_distance(statistics, fresh):
    wide = BlockLayout.from_widths({"topic": 7, "style": 5})
    settings = ClosedForm(spread=0.01, ranks={"topic": 3, "style": 2}, content="")
    solution = solve_closed_form(statistics, layout=wide, settings=settings, raw=slice(0, DIM))
    x = fresh["one"].x
    rows = wide.slice("style")
    z = (x - solution.projection.mean) @ solution.projection.weight[rows].T
    scores = wide.split(solution.projection(x))["style"]
    distances = np.linalg.norm(z[:1] - z[1:], axis=1)
    order = np.argsort(distances)
    cosines = (scores[1:] @ scores[0])[order]
    assert np.corrcoef(np.arange(len(cosines)), cosines)[0, 1] < -0.9


def test_a_block_cut_to_its_leading_dimensions_keeps_its_constant(statistics, fresh):
    """Half of it varies as little as all; without the constant it would take all the room."""
    wide = BlockLayout.from_widths({"topic": 8, "style": 6})
    settings = ClosedForm(spread=0.01, ranks={"topic": 3, "style": 2}, content="")
    solution = solve_closed_form(statistics, layout=wide, settings=settings, raw=slice(0, DIM))
    for block in wide.split(solution.projection(fresh["one"].x)).values():
        half = unit(block[:, : block.shape[1] // 2])
        assert (half[:600] @ half[600:].T).std() < 0.03
        rest = unit(block[:, 1:])
        assert (rest[:600] @ rest[600:].T).std() > 0.3


def test_the_residual_holds_what_no_block_correlates_with(statistics, fresh):
    layout = BlockLayout.from_widths({"topic": 6, "style": 4, "residual": 8})
    solution = solve_closed_form(
        statistics, layout=layout, settings=ClosedForm(content=""), raw=slice(0, DIM)
    )
    rows = {block: solution.projection.weight[layout.slice(block)] for block in layout}
    total = np.mean([source.covariance for source in statistics.values()], axis=0)
    np.testing.assert_allclose(rows["residual"] @ rows["residual"].T, np.eye(8), atol=1e-5)
    for block in ("topic", "style"):
        shared = rows[block] @ total @ rows["residual"].T
        assert np.abs(shared).max() < 1e-4 * np.abs(rows[block] @ total).max()


def test_the_residual_may_keep_a_block_and_stays_apart_from_the_others(statistics):
    layout = BlockLayout.from_widths({"topic": 6, "style": 4, "residual": 8})
    total = np.mean([source.covariance for source in statistics.values()], axis=0)

    def shared(keeps: list[str]) -> dict[str, float]:
        settings = ClosedForm(content="", residual_keeps=keeps)
        solution = solve_closed_form(
            statistics, layout=layout, settings=settings, raw=slice(0, DIM)
        ).projection
        rows = {block: solution.weight[layout.slice(block)] for block in layout}
        return {
            block: np.abs(rows[block] @ total @ rows["residual"].T).max()
            / np.abs(rows[block] @ total).max()
            for block in ("topic", "style")
        }

    assert max(shared([]).values()) < 1e-4
    kept = shared(["topic"])
    assert kept["style"] < 1e-4 < 0.1 < kept["topic"]
    with pytest.raises(ConfigError, match="residual_keeps names 'tone'"):
        shared(["tone"])


def test_caution_closes_what_rewrites_show_and_labels_do_not(world, statistics):
    """Dimension 12 is style by the rewrites alone; a topic of the labels leans on it too."""
    hidden = world.rotation[12]
    lean = 0.3 * np.outer(hidden, hidden)
    told = {}
    for name, source in statistics.items():
        topic = source.factors["topic"]
        means = topic.means + np.outer(np.linspace(-1, 1, TOPICS), hidden)
        told[name] = replace(
            source,
            covariance=source.covariance + lean,
            factors={**source.factors, "topic": replace(topic, means=means)},
            rewrites={
                "style": RewriteStatistics(
                    means={"casual": hidden}, second_moment=np.outer(hidden, hidden)
                )
            },
        )

    def share(caution: float) -> float:
        solution = solve(told, content="", caution={"topic": caution}, energy=0.5)
        rows = solution.projection.weight[solution.projection.layout.slice("topic")]
        return float(np.square(rows @ hidden).sum() / np.square(rows).sum())

    assert share(0.0) > 0.02
    assert share(100.0) < 0.01 * share(0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ranks": {"tone": 2}}, "ranks names 'tone'"),
        ({"caution": {"tone": 2.0}}, "caution names 'tone'"),
        ({"block_shrinkage": {"tone": 0.5}}, "block_shrinkage names 'tone'"),
        ({"reads": {"tone": [0]}}, "reads names 'tone'"),
        ({"reads": {"style": [1]}}, "reads.style names layer 1, but the embedding has 1 side"),
        ({"ranks": {"style": 9}}, "too narrow for rank 9"),
        ({"ranks": {"style": 4}, "spread": 0.1}, "one row is the constant"),
    ],
)
def test_settings_that_fit_no_block_are_refused(statistics, settings, message):
    with pytest.raises(ConfigError, match=message):
        solve(statistics, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"spread": -0.1},
        {"spread": float("nan")},
        {"caution": {"style": -1.0}},
        {"caution": {"style": float("inf")}},
        {"ranks": {"style": 0}},
        {"block_shrinkage": {"style": 0.0}},
        {"reads": {"style": []}},
        {"reads": {"style": [0, 0]}},
        {"reads": {"style": [-1]}},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError):
        ClosedForm(**settings)


def test_a_factor_of_a_single_class_cannot_be_learned_and_is_named(train):
    same = {
        name: replace(texts, codes={**texts.codes, "style": np.zeros_like(texts.codes["style"])})
        for name, texts in train.items()
    }
    statistics = {name: texts.statistics() for name, texts in same.items()}
    with pytest.raises(ConfigError, match="'style' has a single class in every source"):
        solve_closed_form(
            statistics,
            layout=BlockLayout.from_widths(WIDTHS),
            settings=ClosedForm(),
            raw=slice(0, DIM),
        )
    one_is_enough = {**statistics, "one": train["one"].statistics()}
    solve_closed_form(
        one_is_enough,
        layout=BlockLayout.from_widths(WIDTHS),
        settings=ClosedForm(content=""),
        raw=slice(0, DIM),
    )


def test_texts_that_are_all_alike_cannot_be_fitted():
    codes = {"topic": np.arange(40) % 2, "style": np.arange(40) % 3}
    texts = Texts(x=np.ones((40, DIM), dtype=np.float32), codes=codes)
    with pytest.raises(ConfigError, match="all have the same embedding"):
        solve_closed_form(
            {"one": texts.statistics()},
            layout=BlockLayout.from_widths(WIDTHS),
            settings=ClosedForm(),
            raw=slice(0, DIM),
        )
