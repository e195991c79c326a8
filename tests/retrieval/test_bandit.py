"""The bandit: rewards in [0, 1], arms that carry on, and what works is chosen more and more."""

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thompson_bandits import SQLiteStore, ThompsonBandit

from subspace.blocks import BlockLayout
from subspace.errors import BanditError, UsageLogError, WeightsError
from subspace.retrieval import PRESETS, UsageLog, Weights
from subspace.retrieval.usage import shared_sqlite
from subspace.retrieval.usage.bandit import WeightBandit, learn, reward

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3})
TWO = ("balanced", "exploration")


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "bandit.db"


def in_memory(arms=TWO, **options) -> WeightBandit:
    """Thompson sampling as in kusp-dial, unless priors are given."""
    return WeightBandit(":memory:", arms=arms, **{"priors": None, **options})


def posteriors(path: Path) -> dict[str, tuple[float, float]]:
    """As the library itself reads them."""
    with closing(sqlite3.connect(path)) as connection:
        return {a.arm_id: (a.alpha, a.beta) for a in SQLiteStore(connection).get_all_arms()}


# Rewards.


@pytest.mark.parametrize(
    ("ratings", "scale", "expected"),
    [
        (0, (1, 5), 0.0),
        (1, (1, 5), 1.0),
        (0.3, (1, 5), 0.3),
        (np.float32(0.5), (1, 5), 0.5),
        ({"relevance": 1}, (1, 5), 0.0),
        ({"relevance": 5}, (1, 5), 1.0),
        ({"recency": 3, "importance": 4, "relevance": 5}, (1, 5), 0.75),
        ({"recency": np.int64(2), "importance": 3}, (1, 5), 0.375),
        ({"recency": 0.2, "relevance": 0.6}, (0, 1), 0.4),
        ({"recency": 0}, (-1, 1), 0.5),
    ],
)
def test_a_reward_is_a_success_or_the_mean_of_the_ratings_on_their_scale(ratings, scale, expected):
    assert reward(ratings, scale=scale) == pytest.approx(expected)


@given(
    ratings=st.dictionaries(
        st.sampled_from(["recency", "importance", "relevance"]), st.floats(1, 5), min_size=1
    )
)
def test_every_reward_lies_between_0_and_1_and_rises_with_its_ratings(ratings):
    value = reward(ratings)
    assert 0 <= value <= 1
    for name in ratings:
        assert reward({**ratings, name: 5}) >= value - 1e-12


@pytest.mark.parametrize(
    ("ratings", "scale", "message"),
    [
        (1.5, (1, 5), r"success must be between 0 and 1, got 1\.5"),
        (4, (1, 5), "success must be between 0 and 1, got 4"),
        (-0.1, (1, 5), "success must be"),
        (float("nan"), (1, 5), "success must be"),
        ("good", (1, 5), "success must be between 0 and 1, got 'good'"),
        (None, (1, 5), "success must be"),
        ({"relevance": 0}, (1, 5), "relevance must be between 1 and 5, got 0"),
        ({"relevance": 6}, (1, 5), "relevance must be between 1 and 5, got 6"),
        ({"relevance": 3}, (0, 1), "relevance must be between 0 and 1, got 3"),
        ({"relevance": float("nan")}, (1, 5), "relevance must be"),
        ({"relevance": "5"}, (1, 5), "relevance must be"),
        ({"mood": 3}, (1, 5), "no rating is called 'mood'; there are recency, importance"),
        ({}, (1, 5), "a rating is needed of one of recency, importance, relevance"),
        ({"relevance": 1}, (5, 1), r"from the worst to the best rating, got \(5, 1\)"),
        ({"relevance": 1}, (1, 1), "from the worst to the best"),
        ({"relevance": 1}, (float("nan"), 1), "from the worst to the best"),
    ],
)
def test_a_rating_that_cannot_be_is_refused_with_its_name_and_range(ratings, scale, message):
    with pytest.raises(BanditError, match=message):
        reward(ratings, scale=scale)


# Arms.


def test_presets_of_mostly_relevance_are_arms_unless_others_are_named():
    arms = set(WeightBandit(":memory:").arms)
    assert arms == {"relevance", "recency_relevance", "importance_relevance", "pure_relevance"} | {
        "relevance_heavy",
        "balanced",
        "exploration",
    }
    assert in_memory(["relevance"]).weights("relevance", layout=LAYOUT) == Weights.equal(LAYOUT)
    assert set(WeightBandit(":memory:", arms=list(PRESETS)).arms) == set(PRESETS)
    assert list(in_memory().posteriors()) == sorted(TWO)
    mixed = {
        "mine": {"preset": "balanced", "blocks": {"topic": 1}},
        "table": {"relevance": {"topic": 1}, "recency": {"style": 1}},
        "blocks": {"topic": 0.5, "style": 0.1},
    }
    chosen = in_memory(mixed)
    assert chosen.weights("mine", layout=LAYOUT) == Weights.make(
        layout=LAYOUT, preset="balanced", blocks={"topic": 1}
    )
    assert chosen.weights("table", layout=LAYOUT).recency == (0, 1)
    assert chosen.weights("blocks", layout=LAYOUT).relevance == (0.5, 0.1)


def test_arms_that_cannot_be_are_refused_and_leave_no_file(path):
    with pytest.raises(WeightsError, match="no preset 'unbalanced'"):
        WeightBandit(path, arms=["balanced", "unbalanced"])
    for arms in ("balanced", 5, {1: {"topic": 1}}, {"calm": "balanced"}):
        with pytest.raises(BanditError, match="arms are"):
            WeightBandit(path, arms=arms)
    for nothing in ([], {}, ()):
        with pytest.raises(BanditError, match="one arm at least"):
            WeightBandit(path, arms=nothing)
    for discount in (0, 1, 1.5, -1, float("nan"), "0.9"):
        with pytest.raises(BanditError, match="discount must be a number between 0 and 1"):
            WeightBandit(path, discount=discount)
    assert not path.exists()


def test_an_unknown_arm_is_refused_with_the_known_ones():
    chosen = in_memory()
    for ask in (
        lambda: chosen.weights("pure_recency", layout=LAYOUT),
        lambda: chosen.update("pure_recency", 1.0),
    ):
        with pytest.raises(BanditError, match="no arm 'pure_recency'; the arms are balanced, expl"):
            ask()


def test_an_arm_for_blocks_that_are_not_there_is_refused():
    chosen = in_memory({"mine": {"mood": 1}})
    with pytest.raises(WeightsError, match="no block 'mood'"):
        chosen.weights("mine", layout=LAYOUT)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), None, "1"])
def test_a_reward_outside_its_range_is_refused_and_changes_nothing(value):
    chosen = in_memory()
    with pytest.raises(BanditError, match="reward must be between 0 and 1"):
        chosen.update("balanced", value)
    assert chosen.posteriors() == {"balanced": (1, 1), "exploration": (1, 1)}


# The file.


def test_posteriors_that_the_library_collected_carry_on(path):
    with closing(sqlite3.connect(path)) as connection:
        store = SQLiteStore(connection, arm_ids=["balanced", "exploration"])
        collected = ThompsonBandit(store)
        for _ in range(30):
            collected.update("balanced", 0.75)
    with closing(WeightBandit(path, arms=[*TWO, "pure_recency"])) as chosen:
        assert chosen.posteriors() == {
            "balanced": (1 + 30 * 0.75, 1 + 30 * 0.25),
            "exploration": (1, 1),
            "pure_recency": (1, 1),
        }
        chosen.update("balanced", 0.5)
    assert posteriors(path)["balanced"] == (1 + 30 * 0.75 + 0.5, 1 + 30 * 0.25 + 0.5)


def test_what_was_learned_is_there_when_the_file_is_opened_again(path):
    for expected in (1, 2, 3):
        with closing(WeightBandit(path, arms=TWO)) as chosen:
            assert chosen.posteriors()["balanced"] == (expected, 1)
            chosen.update("balanced", 1.0)


def test_arms_of_others_in_the_file_are_neither_chosen_nor_changed(path):
    with closing(sqlite3.connect(path)) as connection:
        store = SQLiteStore(connection, arm_ids=["a prompt", "pure_recency"])
        for arm in ("a prompt", "pure_recency"):
            store.update_stats(arm, alpha_delta=1000, beta_delta=0, reward=1)
    before = posteriors(path)
    with closing(WeightBandit(path, arms=TWO, priors=None, seed=0)) as chosen:
        assert {chosen.choose() for _ in range(50)} == set(TWO)
        chosen.update("balanced", 1.0)
        assert set(chosen.posteriors()) == set(TWO)
    after = posteriors(path)
    assert {arm: after[arm] for arm in before} == before
    # Counter-check: as an arm of one's own it would win every time.
    arms = [*TWO, "pure_recency"]
    with closing(WeightBandit(path, arms=arms, priors=None, seed=0)) as chosen:
        assert Counter(chosen.choose() for _ in range(50))["pure_recency"] > 45


@pytest.mark.parametrize(
    "content", [b"my thesis\n" * 500, b"SQLite format 3\0" + b"\xff" * 5000], ids=["text", "head"]
)
def test_a_damaged_file_is_refused_by_its_name_and_left_as_it_was(content, path):
    path.write_bytes(content)
    with pytest.raises(BanditError, match=r"the bandit's file .*bandit\.db cannot be used"):
        WeightBandit(path)
    assert path.read_bytes() == content


def test_the_folder_of_a_file_is_made_and_one_that_cannot_be_is_said(tmp_path):
    WeightBandit(tmp_path / "new" / "bandit.db").close()
    assert (tmp_path / "new" / "bandit.db").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BanditError, match=r"bandit\.db cannot be used"):
        WeightBandit(tmp_path / "file" / "bandit.db")


def test_an_arm_that_is_gone_from_the_file_is_said(path):
    with closing(WeightBandit(path, arms=TWO)) as chosen:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DELETE FROM bandit_arms WHERE arm_id = 'balanced'")
            connection.commit()
        with pytest.raises(BanditError, match=r"bandit\.db cannot be written"):
            chosen.update("balanced", 1.0)
        chosen.update("exploration", 1.0)


def test_a_closed_bandit_says_so(path):
    chosen = WeightBandit(path, arms=TWO)
    chosen.close()
    for ask in (chosen.choose, chosen.posteriors, lambda: chosen.update("balanced", 1.0)):
        with pytest.raises(BanditError, match=r"bandit\.db cannot be .*closed"):
            ask()


def test_an_update_that_is_refused_is_not_half_done_and_the_next_one_works(path, monkeypatch):
    """Another process holds the file for longer than one waits."""
    monkeypatch.setattr(shared_sqlite, "BUSY_S", 0.1)
    with (
        closing(WeightBandit(path, arms=TWO)) as chosen,
        closing(WeightBandit(path, arms=TWO)) as other,
        closing(sqlite3.connect(path, isolation_level=None)) as lock,
    ):
        lock.execute("BEGIN IMMEDIATE")
        with pytest.raises(BanditError, match=r"bandit\.db cannot be written: .*locked"):
            chosen.update("balanced", 1.0)
        lock.execute("ROLLBACK")
        assert chosen.posteriors()["balanced"] == (1, 1)
        other.update("balanced", 1.0)
        assert chosen.posteriors()["balanced"] == (2, 1)
        chosen.update("balanced", 1.0)
        assert other.posteriors()["balanced"] == (3, 1)


UPDATES = """
import sys
from subspace.retrieval.usage.bandit import WeightBandit

chosen = WeightBandit(sys.argv[1], arms=["balanced", "exploration"])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    chosen.update("balanced", 0.75)
"""


def test_two_processes_may_learn_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", UPDATES, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, problems = process.communicate(timeout=60)
        assert process.returncode == 0, problems
    assert posteriors(path) == {"balanced": (91, 31), "exploration": (1, 1)}


def test_many_may_make_one_new_file_at_once(path):
    for trial in range(10):
        new, start, refused = path.with_name(f"{trial}.db"), threading.Barrier(6), []

        def make(new: Path = new, start=start, refused=refused) -> None:
            start.wait()
            try:
                WeightBandit(new, arms=TWO).close()
            except BanditError as error:
                refused.append(error)

        threads = [threading.Thread(target=make) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not refused
        assert set(posteriors(new)) == set(TWO)


# Learning.


def test_the_same_seed_makes_the_same_choices():
    def choices(seed: int) -> list[str]:
        chosen = WeightBandit(":memory:", seed=seed)
        made = []
        for number in range(60):
            made.append(chosen.choose())
            chosen.update(made[-1], number % 3 / 2)
        return made

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)


def play(*, good: float, bad: float, rounds: int, seed: int) -> list[str]:
    """Arms whose success comes with these probabilities; `exploration` is the good one."""
    rng, chosen, made = np.random.default_rng(seed), in_memory(seed=seed), []
    for _ in range(rounds):
        arm = chosen.choose()
        chance = good if arm == "exploration" else bad
        chosen.update(arm, float(rng.random() < chance))
        made.append(arm)
    return made


def test_the_better_of_two_arms_is_chosen_more_and_more():
    made = [play(good=0.7, bad=0.3, rounds=300, seed=seed) for seed in range(10)]
    late = [Counter(choices[-100:])["exploration"] for choices in made]
    early = [Counter(choices[:20])["exploration"] for choices in made]
    assert min(late) >= 90
    assert np.mean(late) / 100 > np.mean(early) / 20


def test_of_two_equal_arms_neither_is_given_up_early():
    made = [play(good=0.5, bad=0.5, rounds=60, seed=seed) for seed in range(20)]
    shares = [Counter(choices)["exploration"] / 60 for choices in made]
    assert min(shares) > 0.02 and max(shares) < 0.98
    assert 0.35 < np.mean(shares) < 0.65


def test_with_a_discount_what_was_learned_can_be_unlearned():
    last = {}
    for discount in (None, 0.9):
        chosen = in_memory(seed=0, discount=discount)
        for arm, other in (TWO, TWO[::-1]):
            for _ in range(100):
                chosen.update(arm, 1.0)
                chosen.update(other, 0.0)
        (a, b) = chosen.posteriors()["exploration"]
        last[discount] = a / (a + b)
    assert last[0.9] > 0.95
    assert last[None] < 0.6


# From feedback.


@pytest.fixture
def log(tmp_path):
    with UsageLog.open(tmp_path / "usage.db") as log:
        yield log


def test_feedback_is_learned_once(log):
    chosen = in_memory()
    log.add_query("q", arm="balanced")
    rated = {"recency": 5, "importance": 5, "relevance": 2}
    assert learn(chosen, log=log, query_id="q", ratings=rated) == "balanced"
    assert chosen.posteriors()["balanced"] == (1.75, 1.25)
    with pytest.raises(UsageLogError, match="query 'q' was rated before"):
        learn(chosen, log=log, query_id="q", ratings=rated)
    with pytest.raises(UsageLogError, match="no query 'nowhere'"):
        learn(chosen, log=log, query_id="nowhere", ratings=rated)
    assert chosen.posteriors() == {"balanced": (1.75, 1.25), "exploration": (1, 1)}


def test_feedback_that_is_refused_can_be_given_again(log, path, monkeypatch):
    monkeypatch.setattr(shared_sqlite, "BUSY_S", 0.1)
    log.add_query("q", arm="balanced")
    log.add_query("own weights", arm=None)
    log.add_query("other arms", arm="pure_recency")
    with closing(WeightBandit(path, arms=TWO)) as chosen:
        for query, ratings, message in (
            ("q", {"relevance": 6}, "relevance must be between 1 and 5"),
            ("q", {"mood": 5}, "no rating is called 'mood'"),
            ("q", 7, "success must be between 0 and 1"),
            ("own weights", 1.0, "'own weights' were not the bandit's choice"),
            ("other arms", 1.0, "no arm 'pure_recency'"),
        ):
            with pytest.raises(BanditError, match=message):
                learn(chosen, log=log, query_id=query, ratings=ratings)
        with closing(sqlite3.connect(path, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            with pytest.raises(BanditError, match="locked"):
                learn(chosen, log=log, query_id="q", ratings=1.0)
        assert learn(chosen, log=log, query_id="q", ratings=1.0) == "balanced"
        assert chosen.posteriors() == {"balanced": (2, 1), "exploration": (1, 1)}
    with closing(WeightBandit(path, arms=["pure_recency"])) as other:
        assert learn(other, log=log, query_id="other arms", ratings=0.0) == "pure_recency"


def test_a_bandit_whose_file_was_taken_away_takes_no_reward_that_would_be_lost(tmp_path):
    bandit = WeightBandit(tmp_path / "arms.db", seed=0)
    bandit.update("balanced", 1.0)
    for path in tmp_path.glob("arms.db*"):
        path.unlink()
    for use in (lambda: bandit.update("balanced", 1.0), bandit.choose, bandit.posteriors):
        with pytest.raises(BanditError, match="moved, removed or replaced"):
            use()
    bandit.close()
