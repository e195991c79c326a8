"""With priors a bandit hardly costs anything, and told which hits succeeded it learns quickly."""

import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thompson_bandits import SQLiteStore, ThompsonBandit

from subspace.errors import BanditError, UsageLogError
from subspace.retrieval import PRESETS, UsageLog
from subspace.retrieval.presets import RELEVANCE
from subspace.retrieval.usage import hit_comparisons
from subspace.retrieval.usage.bandit import DEFAULT_ARMS, WeightBandit, learn_from_hits
from subspace.retrieval.usage.beliefs import form_beliefs
from subspace.retrieval.usage.factored_bandit import FactoredBandit
from subspace.retrieval.usage.hit_comparisons import Compared, HitOrders
from subspace.retrieval.usage.priors import PRIORS, REPLAYED, Prior, learn_priors

HITS = ("a", "b", "c", "d", "e")
SEEDS = range(4)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "bandit.db"


@pytest.fixture
def log(tmp_path) -> Iterator[UsageLog]:
    with UsageLog.open(tmp_path / "usage.db") as log:
        yield log


# Worlds.


def rated_as_a_whole(
    chances: dict[str, float], *, searches: int, seed: int, **options
) -> list[str]:
    """Returns the choices; a search succeeds with the chance of its arm."""
    rng, chosen = np.random.default_rng(seed), []
    with closing(WeightBandit(":memory:", seed=seed, **options)) as bandit:
        for _ in range(searches):
            chosen.append(bandit.choose())
            bandit.update(chosen[-1], float(rng.random() < chances[chosen[-1]]))
    return chosen


def rated_by_hit(chances: dict[str, float], *, searches: int, seed: int, **options) -> list[str]:
    """Returns the choices; one hit of five succeeds, and an arm has it first by its chance.

    What is first for one arm is so for every arm with a larger chance, else it stands last.
    """
    rng, chosen = np.random.default_rng(seed), []
    with closing(WeightBandit(":memory:", seed=seed, **options)) as bandit:
        for number in range(searches):
            chosen.append(bandit.choose())
            hard = rng.random()
            orders = {
                arm: HITS if hard < chances[arm] else HITS[::-1]
                for arm in bandit.rivals(chosen[-1])
            }
            bandit.remember(str(number), orders)
            bandit.compare(chosen[-1], str(number), {"a": 1.0})
    return chosen


def world_of(*, best: str, value: float, others: float) -> dict[str, float]:
    return {arm: value if arm == best else others for arm in DEFAULT_ARMS}


@pytest.mark.parametrize("play", [rated_as_a_whole, rated_by_hit])
@pytest.mark.parametrize("others", [0.48, 0.45, 0.4])
def test_where_relevance_is_best_300_searches_cost_two_percent_at_most(
    play: Callable[..., list[str]], others: float
):
    """Counter-check: Thompson sampling without priors costs more where others are clearly worse."""
    world = world_of(best="relevance", value=0.5, others=others)
    made = [play(world, searches=300, seed=seed) for seed in SEEDS]
    assert np.mean([world[arm] for choices in made for arm in choices]) >= 0.98 * 0.5
    if others == 0.4:
        without = rated_as_a_whole(world, searches=300, seed=0, priors=None)
        assert np.mean([world[arm] for arm in without]) < 0.95 * 0.5


@pytest.mark.parametrize("best", ["balanced", "importance_relevance"])
def test_an_arm_that_is_far_better_is_found_within_50_searches_by_their_hits(best):
    world = world_of(best=best, value=0.9, others=0.2)
    made = [rated_by_hit(world, searches=100, seed=seed) for seed in SEEDS]
    assert {choices[0] for choices in made} <= set(DEFAULT_ARMS)
    assert np.mean([choices[:5].count("relevance") for choices in made]) > 1  # counter-check
    assert min(choices[50:].count(best) for choices in made) >= 40


def test_an_arm_that_is_far_better_is_found_by_whole_searches_too_but_later():
    world = world_of(best="balanced", value=0.9, others=0.3)
    made = [rated_as_a_whole(world, searches=1500, seed=seed) for seed in SEEDS[:4]]
    assert np.mean([choices[-100:].count("balanced") for choices in made]) > 80
    assert np.mean([choices[:50].count("balanced") for choices in made]) < 25


def test_nearly_all_searches_use_the_best_belief_before_anything_is_learned():
    with closing(WeightBandit(":memory:", seed=0)) as bandit:
        chosen = [bandit.choose() for _ in range(300)]
        assert bandit.best() == "relevance"
    assert 0.93 <= chosen.count("relevance") / 300 < 1


# The file.


def test_what_kusp_dial_collected_counts_beside_the_priors(path):
    with closing(sqlite3.connect(path)) as connection:
        collected = ThompsonBandit(SQLiteStore(connection, arm_ids=list(PRESETS)))
        for _ in range(400):
            collected.update("exploration", 0.75)
            collected.update("pure_relevance", 0.25)
    with closing(WeightBandit(path, seed=0)) as bandit:
        assert bandit.best() == "exploration"
        assert [bandit.choose() for _ in range(100)].count("exploration") > 90
        bandit.update("exploration", 1.0)
    with closing(sqlite3.connect(path)) as connection:  # kusp-dial reads it as before
        store = SQLiteStore(connection)
        assert store.get_stats("exploration").pulls == 401
        assert store.get_stats("exploration").alpha == 1 + 400 * 0.75 + 1
        assert store.get_stats("balanced").alpha == 1  # no prior is written into the file
        assert ThompsonBandit(store).select() in store_names(store)


def store_names(store: SQLiteStore) -> set[str]:
    return {arm.arm_id for arm in store.get_all_arms()}


COMPARES = """
import sys
from subspace.retrieval.usage.bandit import WeightBandit

bandit = WeightBandit(sys.argv[1], arms=["relevance", "balanced"])
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    query = f"{sys.argv[2]} {number}"
    bandit.remember(query, {"relevance": ["a", "b"], "balanced": ["b", "a"]})
    bandit.compare("relevance", query, {"b": 1})
"""


def test_two_processes_may_compare_hits_at_once(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMPARES, str(path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, problems = process.communicate(timeout=60)
        assert process.returncode == 0, problems
    assert compared(path) == {"relevance": 80, "balanced": 80}
    with closing(WeightBandit(path, arms=["relevance", "balanced"])) as bandit:
        assert bandit.best() == "balanced"


def compared(path: Path) -> dict[str, float]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT arm_id, searches FROM bandit_arms_compared"))


def test_a_discount_lets_go_of_what_hits_once_told():
    ranks = {"relevance": ["a", "b"], "balanced": ["b", "a"]}
    best = {}
    for discount in (None, 0.9):
        with closing(
            WeightBandit(":memory:", arms=list(ranks), discount=discount, seed=0)
        ) as bandit:
            for number in range(130):
                bandit.remember(str(number), ranks)
                bandit.compare("relevance", str(number), {"b" if number < 100 else "a": 1.0})
            best[discount] = bandit.best()
    assert best == {None: "balanced", 0.9: "relevance"}


def test_only_the_hits_of_the_last_searches_are_kept(path, monkeypatch):
    monkeypatch.setattr(hit_comparisons, "_KEPT", 3)
    with closing(WeightBandit(path)) as bandit:
        for number in range(5):
            bandit.remember(str(number), dict.fromkeys(DEFAULT_ARMS, HITS))
        with pytest.raises(BanditError, match="the hits of query '1' are not in the bandit's file"):
            bandit.compare("relevance", "1", {"a": 1.0})
        for number in (2, 3, 4):
            bandit.compare("relevance", str(number), {"a": 1.0})
    assert hits_kept(path) == 0


def hits_kept(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT count(*) FROM bandit_hits WHERE orders IS NOT NULL"
        return connection.execute(query).fetchone()[0]


def test_a_thousand_hits_are_kept_as_the_best_of_them_and_each_id_once(path):
    rng = np.random.default_rng(0)
    ids = [f"a skill with a long name {number}" for number in range(1000)]
    with closing(WeightBandit(path)) as bandit:
        orders = {arm: rng.permutation(ids).tolist() for arm in DEFAULT_ARMS}
        bandit.remember("q", orders | {"relevance": ids})
        with closing(sqlite3.connect(path)) as connection:
            ((content,),) = connection.execute("SELECT orders FROM bandit_hits")
        assert len(content) < 5_000
        assert content.count(f'{ids[0]}"') == 1
        # One that was not kept may be rated beside one that was.
        bandit.compare("relevance", "q", {ids[0]: 1.0, ids[999]: 1.0})
        assert compared(path) == dict.fromkeys(DEFAULT_ARMS, 1.0)
        bandit.remember("few", {"relevance": ids[:64], "balanced": ids[:64][::-1]})
        with pytest.raises(BanditError, match="was not among the hits"):  # all are kept
            bandit.compare("relevance", "few", {ids[999]: 1.0})


@pytest.mark.parametrize("make", [WeightBandit, lambda path: FactoredBandit(path, blocks={})])
def test_feedback_that_was_killed_before_the_log_knew_of_it_ends_well_and_counts_once(
    make, log, path
):
    log.add_query("q", arm="relevance")
    with closing(make(path)) as bandit:
        bandit.remember("q", {"relevance": HITS, "balanced": HITS[::-1]})
        bandit.compare("relevance", "q", {"a": 1.0})  # killed here
        assert log.awaits_rating("q")
        assert learn_from_hits(bandit, log=log, query_id="q", successes={"a": 1.0}) == "relevance"
        assert not log.awaits_rating("q")
        with pytest.raises(UsageLogError, match="rated before"):
            learn_from_hits(bandit, log=log, query_id="q", successes={"a": 1.0})
    assert compared(path) == {"relevance": 1.0, "balanced": 1.0}


ALIKE = dict.fromkeys(DEFAULT_ARMS, HITS)


@pytest.mark.parametrize(
    ("orders", "successes"),
    [
        (ALIKE, {"a": 1.0}),  # no history yet
        (dict.fromkeys(DEFAULT_ARMS, ("a",)), {"a": 1.0}),
        (ALIKE | {"balanced": HITS[::-1]}, {"a": 0.0, "b": 0.0}),
        (ALIKE | {"balanced": HITS[::-1]}, dict.fromkeys(HITS, 0.7)),
    ],
    ids=["alike", "one", "no success", "all equal"],
)
def test_searches_that_cannot_tell_arms_apart_do_not_make_one_that_can_decisive(
    orders, successes, path
):
    """Counter-check: many that can tell them apart are."""
    told = ALIKE | {"relevance_heavy": ("a", "b", "d", "c", "e")}
    with closing(WeightBandit(path, seed=0)) as bandit:
        for number in range(300):
            bandit.remember(str(number), orders)
            bandit.compare("relevance", str(number), successes)
        assert compared(path) == {}
        for number in range(300, 400):
            bandit.remember(str(number), told)
            bandit.compare("relevance", str(number), {"d": 1.0})
            if number == 300:
                assert bandit.best() == "relevance"
        assert bandit.best() == "relevance_heavy"


def test_a_search_is_rated_once_by_its_hits_or_as_a_whole(log, path):
    log.add_query("q", arm="relevance")
    log.add_query("own weights", arm=None)
    with closing(WeightBandit(path)) as bandit:
        bandit.remember("q", dict.fromkeys(DEFAULT_ARMS, HITS) | {"balanced": HITS[::-1]})
        for successes, message in (
            ({"z": 1.0}, "'z' was not among the hits"),
            ({"a": 1.5}, "success of 'a' must be between 0 and 1"),
            ({}, "a success for each id"),
            (1.0, "a success for each id"),
        ):
            with pytest.raises(BanditError, match=message):
                learn_from_hits(bandit, log=log, query_id="q", successes=successes)
        with pytest.raises(BanditError, match="not the bandit's choice"):
            learn_from_hits(bandit, log=log, query_id="own weights", successes={"a": 1.0})
        assert compared(path) == {}
        assert learn_from_hits(bandit, log=log, query_id="q", successes={"a": 1.0}) == "relevance"
        with pytest.raises(UsageLogError, match="rated before"):
            learn_from_hits(bandit, log=log, query_id="q", successes={"a": 1.0})
    assert compared(path) == dict.fromkeys(DEFAULT_ARMS, 1.0)


# Gains and beliefs.


@given(
    successes=st.dictionaries(st.sampled_from(HITS), st.floats(0, 1), min_size=1),
    places=st.permutations(HITS),
)
def test_a_gain_is_the_ndcg_of_the_order(successes, places):
    def dcg(ids: Sequence[str]) -> float:
        return sum(successes.get(one, 0) / np.log2(rank + 2) for rank, one in enumerate(ids))

    best = dcg(sorted(HITS, key=lambda one: -successes.get(one, 0)))
    orders = HitOrders.of({"shown": HITS, "x": places})
    assert HitOrders.from_json(orders.to_json()) == orders
    gains = orders.gains(successes)
    alike = len({successes.get(one, 0) for one in HITS}) == 1 or tuple(places) == HITS
    assert bool(gains) == (not alike)
    for arm, ids in (("shown", HITS), ("x", places)) if gains else ():
        assert gains[arm] == pytest.approx(dcg(ids) / best if best > 1e-300 else gains[arm])
        assert 0 <= gains[arm] <= 1 + 1e-9


def test_beliefs_are_the_priors_until_something_is_learned_and_then_that():
    priors = [Prior(0.1, 0.01), Prior(0.05, 0.1)]

    def beliefs(compared: Compared, rewards=((0.0, 0.0), (0.0, 0.0))):
        return form_beliefs(priors, rewards=rewards, compared=[Compared(), compared], reference=0)

    nothing = beliefs(Compared())
    np.testing.assert_allclose(nothing.mean, [0, -0.05])  # beside the reference
    np.testing.assert_allclose(nothing.spread, [0.01, 0.1])
    much = beliefs(Compared(searches=1e6, total=2e5, squares=1e5))
    assert much.mean[1] == pytest.approx(0.2, abs=1e-3)
    assert much.spread[1] < 1e-3
    # The reference earned 0.5 in a hundred thousand searches, the other 0.6: a fifth more.
    rewards = ((0.5e6, 1e6), (0.6e3, 1e3))
    assert -0.05 < beliefs(Compared(), rewards).mean[1] < 0.2
    rewards = ((0.5e9, 1e9), (0.6e7, 1e7))
    assert beliefs(Compared(), rewards).mean[1] == pytest.approx(0.2, abs=0.01)


def test_priors_favour_relevance_and_can_leave_a_set_out():
    assert set(PRIORS) == {"relevance", *PRESETS}
    assert all(len(shares) == len(PRESETS) for shares in REPLAYED.values())
    # Of the presets alone, one may be better by no more than any is known.
    best = max(DEFAULT_ARMS, key=lambda arm: PRIORS[arm].mean)
    assert PRIORS[best].mean < PRIORS["relevance"].mean + PRIORS["relevance"].spread
    assert PRIORS["pure_recency"].mean < -0.9
    for name in REPLAYED:
        assert learn_priors(without=name) != PRIORS
        assert max(learn_priors(without=name).values(), key=lambda one: one.mean).mean < 0.01
    assert learn_priors(without="my own set") == PRIORS


def test_arms_need_a_prior_each_or_none():
    with pytest.raises(BanditError, match="arm 'exploration' has no prior"):
        WeightBandit(":memory:", arms=["exploration"], priors={"balanced": Prior(0, 0.1)})
    named = {"relevance": {"topic": 1}, "calm": {"preset": "balanced"}}
    assert WeightBandit(":memory:", arms=named).priors is None
    given = {name: Prior(0, 0.1) for name in named}
    assert WeightBandit(":memory:", arms=named, priors=given).priors == given


# Block weights.


def test_hits_tell_presets_and_block_weights_at_once():
    """Each is compared under what was chosen of the other; counter-check: the other way round."""
    for good, bad in (("content", "equal"), ("equal", "content")):
        with closing(
            FactoredBandit(":memory:", blocks={"content": {"topic": 1}}, seed=0)
        ) as bandit:
            for number in range(30):
                arm = bandit.choose()
                rivals = bandit.rivals(arm)
                assert rivals[0] == arm and len(rivals) == len(set(rivals)) == 7 + 1
                orders = {
                    name: ["a", "b"] if ("content" in name) == (good == "content") else ["b", "a"]
                    for name in rivals
                }
                bandit.remember(str(number), orders)
                bandit.compare(arm, str(number), {"a": 1.0})
            assert bandit.blocks.best() == good != bad
            assert bandit.presets.best() == "relevance"


def lifted() -> dict[str, list[str]]:
    """Orders in which every mix puts the used item first, and relevance alone puts it second."""
    arms = WeightBandit(":memory:").arms
    return {arm: ["b", "a"] if arm == RELEVANCE else ["a", "b"] for arm in arms}


def test_one_query_asked_again_and_again_teaches_no_more_than_once(tmp_path):
    """Who says every time that the same hit was good would otherwise get it for every query."""
    for asked, counted in (("the same", 1), (None, 30)):
        bandit = WeightBandit(tmp_path / f"{counted}.db", seed=0)
        for number in range(30):
            bandit.remember(str(number), lifted(), asked=asked)
            bandit.compare(RELEVANCE, str(number), {"a": 1.0})
        assert {one.searches for one in bandit._comparisons.read().values()} == {counted}
        chosen = Counter(bandit.choose() for _ in range(200))
        near = chosen[RELEVANCE] + chosen["pure_relevance"]
        assert (near > 150) == (counted == 1), chosen
        bandit.close()


def test_a_few_lucky_searches_do_not_lead_away_from_relevance(tmp_path):
    """Counter-check: many do."""
    bandit = WeightBandit(tmp_path / "arms.db", seed=0)
    for number in range(40):
        if number == 2:
            early = Counter(bandit.choose() for _ in range(200))
        bandit.remember(str(number), lifted(), asked=str(number))
        bandit.compare(RELEVANCE, str(number), {"a": 1.0})
    late = Counter(bandit.choose() for _ in range(200))
    assert early[RELEVANCE] + early["pure_relevance"] > 150
    assert late[RELEVANCE] < 50
    bandit.close()
