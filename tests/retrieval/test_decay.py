"""Recency and importance of each item by itself: the published formula, and newer is never less."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.errors import ConfigError
from subspace.retrieval import Use
from subspace.retrieval.usage.decay import KINDS, Decay, ItemHistory, parse_duration

DAY_S = 86_400.0


# The formula.


class PublishedFormula:
    """As the retrieval-weight experiment computes it, written from its description, step by step.

    Recency of a skill is max(0, 1 - steps since its last use / 50), 0.5 if it was never used;
    importance is its Laplace-smoothed success rate (s + 1) / (s + f + 2).
    """

    def __init__(self) -> None:
        self.step = 0
        self.last_used: dict[str, int] = {}
        self.successes: dict[str, float] = {}
        self.failures: dict[str, float] = {}

    def use(self, item: str, success: float | None) -> None:
        self.last_used[item] = self.step
        if success is not None:
            self.successes[item] = self.successes.get(item, 0) + success
            self.failures[item] = self.failures.get(item, 0) + (1 - success)

    def recency(self, item: str) -> float:
        if item not in self.last_used:
            return 0.5
        return max(0.0, 1.0 - (self.step - self.last_used[item]) / 50)

    def importance(self, item: str) -> float:
        s, f = self.successes.get(item, 0), self.failures.get(item, 0)
        return (s + 1) / (s + f + 2)


@pytest.mark.parametrize("seed", range(5))
def test_recency_and_importance_are_those_of_the_published_formula(seed):
    """Over 300 steps that use some of 40 items, ten of them never: at every step, to 1e-6."""
    rng, history, formula = random.Random(seed), ItemHistory(), PublishedFormula()
    items = [f"skill {n}" for n in range(40)]
    for step in range(300):
        formula.step = step
        recency, importance = history.at(step, decay=Decay()).of(items)
        assert recency == pytest.approx([formula.recency(item) for item in items], abs=1e-6)
        assert importance == pytest.approx([formula.importance(item) for item in items], abs=1e-6)
        for _ in range(rng.randrange(4)):
            item, success = rng.choice(items[:30]), rng.choice([None, 0.0, 1.0, rng.random()])
            history.add([Use(item, time=step, success=success)])
            formula.use(item, success)
    # Counter-check: it was not one value all the time.
    assert len(set(recency)) > 10 and len(set(importance)) > 10


def test_the_window_begins_at_one_ends_after_fifty_steps_and_was_never_used_is_half():
    history = ItemHistory()
    history.add([Use("a", time=10)])
    ages = {0: 1.0, 1: 0.98, 25: 0.5, 49: 0.02, 50: 0.0, 51: 0.0, 10_000: 0.0}
    for age, expected in ages.items():
        recency, _ = history.at(10 + age, decay=Decay()).of(["a", "never"])
        assert recency == pytest.approx([expected, 0.5], abs=1e-12)


@pytest.mark.parametrize(
    ("successes", "expected"),
    [
        ([], 1 / 2),
        ([None, None], 1 / 2),
        ([1.0], 2 / 3),
        ([0.0], 1 / 3),
        ([1.0, 0.0, None], 2 / 4),
        ([1.0] * 8, 9 / 10),
        ([0.25], 1.25 / 3),
        ([0.5] * 4, 3 / 6),
    ],
)
def test_importance_is_the_smoothed_success_rate_also_of_fractions(successes, expected):
    history = ItemHistory()
    history.add([Use("a", time=0, success=success) for success in successes])
    assert history.at(0, decay=Decay()).of(["a"])[1] == pytest.approx([expected])


@pytest.mark.parametrize(
    ("decay", "values"),
    [
        (Decay("linear", 10), {0: 1, 5: 0.5, 10: 0, 20: 0}),
        (Decay("exponential", 10), {0: 1, 10: 0.5, 20: 0.25, 5: 2**-0.5}),
        (Decay("power", 10), {0: 1, 10: 0.5, 30: 0.25}),
    ],
)
def test_each_kind_of_decay_is_its_formula(decay, values):
    assert decay(list(values)) == pytest.approx(list(values.values()))
    assert decay(-3.0) == 1  # clocks of two machines differ a little


# What holds of every kind.

decays = st.builds(Decay, st.sampled_from(KINDS), st.floats(1e-3, 1e9))
times = st.floats(0, 1e9)


@settings(max_examples=100, deadline=None)
@given(decay=decays, older=times, newer=times, now=times)
def test_newer_never_scores_lower_than_older(decay, older, newer, now):
    older, newer = sorted((older, newer))
    history = ItemHistory()
    history.add([Use("newer", time=newer), Use("older", time=older)])
    recency, _ = history.at(max(now, newer), decay=decay).of(["older", "newer"])
    assert recency[0] <= recency[1]
    assert (recency >= 0).all() and (recency <= 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_within_the_window_newer_scores_higher(kind):
    """Counter-check: a constant would not fail the property above."""
    ages = np.arange(50)
    assert (np.diff(Decay(kind)(ages)) < 0).all()


@settings(max_examples=100, deadline=None)
@given(decay=decays, first=times, again=times)
def test_using_an_item_again_never_lowers_its_recency(decay, first, again):
    history = ItemHistory()
    history.add([Use("a", time=first)])
    now = max(first, again)
    before = history.at(now, decay=decay).of(["a"])[0]
    history.add([Use("a", time=again)])
    assert history.at(now, decay=decay).of(["a"])[0] >= before


any_uses = st.lists(
    st.builds(
        Use,
        item=st.sampled_from("abcdef"),
        time=st.integers(0, 100),
        success=st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    ),
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(uses=any_uses, data=st.data())
def test_the_order_in_which_uses_are_counted_changes_nothing(uses, data):
    shuffled = data.draw(st.permutations(uses))
    cut = data.draw(st.integers(0, len(uses)))
    first, second = ItemHistory(), ItemHistory()
    first.add(uses)
    second.add(shuffled[:cut])
    second.add(shuffled[cut:])
    for one, other in zip(
        first.at(100, decay=Decay()).of("abcdefgh"),
        second.at(100, decay=Decay()).of("abcdefgh"),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_items_are_kept_in_the_order_of_their_first_use():
    """Engines remember where the first of them are: the list only grows at its end."""
    history, known = ItemHistory(), []
    rng = random.Random(0)
    for step in range(200):
        history.add([Use(f"item {rng.randrange(80)}", time=step)])
        assert history.ids[: len(known)] == known
        known = list(history.ids)
        assert len(history.recency(step, decay=Decay())) == len(history.importance()) == len(known)
    assert len(known) == len(set(known)) > 60


# What is read from text.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("exponential:7d", Decay("exponential", 7 * DAY_S)),
        (" power : 12h ", Decay("power", 12 * 3600)),
        ("linear:1.5m", Decay("linear", 90)),
        ("linear:2w", Decay("linear", 14 * DAY_S)),
        ("linear:1e3s", Decay("linear", 1000)),
    ],
)
def test_decay_is_read_from_text(text, expected):
    assert Decay.parse(text, clock="wall") == expected
    assert Decay.parse("linear:50", clock="steps") == Decay("linear", 50)


@pytest.mark.parametrize(
    ("text", "clock", "message"),
    [("linear:7d", "steps", "counts steps: '7d'"), ("linear:50", "wall", "'50' needs a unit")],
)
def test_a_unit_goes_with_wall_clock_time_alone(text, clock, message):
    with pytest.raises(ConfigError, match=message):
        Decay.parse(text, clock=clock)


@pytest.mark.parametrize(
    "text",
    ["", "linear", "50", "sudden:50", "linear:", "linear:x", "linear:5y", "linear:-", "linear:1:2"],
)
def test_decay_that_cannot_be_read_is_refused(text):
    for clock in ("steps", "wall"):
        with pytest.raises(ConfigError, match="must read like"):
            Decay.parse(text, clock=clock)


@pytest.mark.parametrize("text", ["linear:0", "linear:-5", "power:nan", "power:inf", "power:1e999"])
def test_a_scale_that_cannot_be_is_refused_with_its_value(text):
    with pytest.raises(ConfigError, match="recency must be above 0 and finite, got"):
        Decay.parse(text, clock="steps")


@pytest.mark.parametrize("kind", ["sudden", "", None, ["linear"]])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind):
    with pytest.raises(ConfigError, match="one of linear, exponential, power, not"):
        Decay(kind)


def test_a_window_is_fifty_steps_or_fifty_days():
    assert Decay.default("steps") == Decay("linear", 50)
    assert Decay.default("wall") == Decay("linear", 50 * DAY_S)
    assert parse_duration("50d", clock="wall") == 50 * DAY_S
