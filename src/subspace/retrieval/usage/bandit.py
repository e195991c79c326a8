"""WeightBandit: learns which weights give good hits.

Each arm is a preset or a named set of weights, and has a Beta posterior over its mean reward. The
SQLite store is that of `kusp-dial` (module `thompson_bandits`), so a file that kusp-dial wrote
under the presets' names can be used as it is.

Presets have priors, learned from replays of public sets. They say that relevance alone is hard to
beat and that some presets lose everywhere, and are added to what the file holds when an arm is
chosen. The arm with the best belief is used; one search in twenty draws from the beliefs instead
(Thompson sampling), which finds out about other arms. Weights without priors are chosen by Thompson
sampling throughout.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from subspace.blocks import BlockLayout
from subspace.errors import BanditError, install_command
from subspace.retrieval.presets import PRESETS, RELEVANCE, find_preset
from subspace.retrieval.usage.beliefs import Beliefs, form_beliefs
from subspace.retrieval.usage.hit_comparisons import Compared, Comparisons, HitOrders, ShownHits
from subspace.retrieval.usage.priors import PRIORS, UNKNOWN, Prior
from subspace.retrieval.usage.shared_sqlite import (
    HeldConnection,
    open_shared,
    switch_to_wal,
    table_names,
)
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import PARTS, Weights

if TYPE_CHECKING:
    from thompson_bandits import ArmStats

# Relevance alone, and the presets in which relevance weighs most. The others lost in nearly every
# replay; only recency_importance was once better than relevance alone, by 0.6 percent.
DEFAULT_ARMS = (RELEVANCE, *(name for name, (r, i, v) in PRESETS.items() if v > max(r, i)))
# Share of the searches that try other arms, if arms have priors.
EXPLORED = 0.05


def reward(ratings: Mapping[str, float] | float, *, scale: tuple[float, float] = (1, 5)) -> float:
    """Returns a reward in [0, 1]: the success itself, or the mean rating scaled to [0, 1].

    Args:
        ratings: A success in [0, 1], or ratings of `recency`, `importance` and `relevance` (at
            least one of them) on `scale`.
        scale: The worst and the best rating.

    Raises:
        BanditError: A name is unknown, there is no rating, a value is not a number or outside its
            range, or the scale is wrong.
    """
    if not isinstance(ratings, Mapping):
        return _within(ratings, (0, 1), of="success")
    low, high = scale
    if not low < high:
        raise BanditError(f"a scale goes from the worst to the best rating, got {scale}")
    if not ratings:
        raise BanditError(f"a rating is needed of one of {', '.join(PARTS)} at least")
    for name in ratings:
        if name not in PARTS:
            raise BanditError(f"no rating is called '{name}'; there are {', '.join(PARTS)}")
    values = [_within(value, scale, of=name) for name, value in ratings.items()]
    return float(np.mean([(value - low) / (high - low) for value in values]))


class Bandit(Protocol):
    """Chooses an arm, whose name stands for weights, and learns from its reward."""

    def choose(self) -> str:
        """Returns the name of the arm to use next."""
        ...

    def weights(
        self, arm: str, *, layout: BlockLayout, default: Mapping[str, float] | None = None
    ) -> Weights:
        """Returns the weights of an arm; `default` are those of blocks if it names none."""
        ...

    def rivals(self, arm: str) -> Sequence[str]:
        """Returns the arms, `arm` among them, that learn from the hits of a search of `arm`."""
        ...

    def remember(
        self, query_id: str, orders: Mapping[str, Sequence[str]], *, asked: str | None = None
    ) -> None:
        """Keeps the ids of the hits of a search in the order of each of its arm's rivals."""
        ...

    def check(self, layout: BlockLayout) -> None:
        """Raises `WeightsError` unless the weights of every arm fit the layout."""
        ...

    def update(self, arm: str, value: float) -> None:
        """Updates the posterior of an arm with a reward in [0, 1]."""
        ...

    def compare(self, arm: str, query_id: str, successes: Mapping[str, float]) -> None:
        """Updates all rivals of an arm with the success of the hits of a search, once."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class WeightBandit:
    """Chooses among named weights, and learns from rewards and from the success of hits.

    Any number of threads may use one bandit, and any number of processes one file.

    Attributes:
        arms: Weights by the name of the arm, as `Weights.from_mapping` takes them.
        priors: The prior of each arm by name; None without priors.
        path: SQLite file of the posteriors.
        connection: Connection to the file.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        arms: Mapping[str, Mapping[str, Any]] | Iterable[str] | None = None,
        discount: float | None = None,
        seed: int | None = None,
        priors: Mapping[str, Prior] | None = PRIORS,
        table: str = "bandit_arms",
        connection: HeldConnection | None = None,
    ) -> None:
        """Opens the file of the posteriors; creates it if it does not exist.

        Args:
            path: SQLite file of the posteriors; `:memory:` keeps them in memory.
            arms: Names of presets (and `relevance`, relevance alone), or weights by name;
                `DEFAULT_ARMS` if None. Posteriors of other arms in the file are not changed.
            discount: Factor in (0, 1) by which what was learned of an arm is multiplied before
                each of its rewards, for rewards that change over time; None for no discount.
                Priors stay.
            seed: Seed of the sampling; None for a random one.
            priors: What is known of each arm before it is tried, by name; by default that of
                presets from replays, or None if weights are given by name. None for Thompson
                sampling without priors.
            table: Name of the table in the file.
            connection: An open connection to the file, to share it with another bandit.

        Raises:
            BanditError: The package kusp-dial is not installed, the file cannot be used, the
                discount is wrong, there are no arms, or an arm has no prior.
            WeightsError: A preset is unknown.
        """
        self.arms = _read_arms(arms)
        self.priors = _choose_priors(priors, self.arms, named=isinstance(arms, Mapping))
        try:
            from thompson_bandits import BanditConfig, SQLiteStore, ThompsonBandit
        except ImportError as error:
            raise BanditError(
                f"preset 'auto' needs the package kusp-dial: {install_command('bandit')}"
            ) from error
        try:
            settings = BanditConfig(discount=discount)
        except (TypeError, ValueError) as error:
            raise BanditError(
                f"discount must be a number between 0 and 1, or None, got {discount!r:.60}"
            ) from error
        with translate_errors(path, "used"):
            connection = connection or open_shared(path)
        try:
            with translate_errors(path, "used"):
                if "uses" in table_names(connection):
                    raise BanditError(f"{path} is a usage log; keep the bandit in another file")
                switch_to_wal(connection)
                store = SQLiteStore(connection, arm_ids=list(self.arms), table_name=table)
                self._shown = ShownHits(connection)
                reference = RELEVANCE if RELEVANCE in self.arms else next(iter(self.arms))
                self._comparisons = Comparisons(
                    connection, table=f"{table}_compared", reference=reference
                )
        except BaseException:
            connection.close()
            raise
        self.path = path
        self.connection = connection
        self._rng = np.random.default_rng(seed)
        self._discount = 1.0 if discount is None else discount
        self._bandit = ThompsonBandit(
            _OwnArms(store, names=frozenset(self.arms)), settings, self._rng
        )

    def close(self) -> None:
        """Closes the file."""
        with self.connection.lock:
            self.connection.close()

    def choose(self) -> str:
        """Returns the arm with the best belief, or now and then one that is worth a try.

        The best is the one whose advantage less a standard deviation is largest: an arm of which
        little is known has to be better by more, so that a few lucky searches decide nothing.
        Without priors, returns the arm with the largest draw from its belief.

        Raises:
            BanditError: The file cannot be read.
        """
        with translate_errors(self.path, "read"), self.connection.reading():
            beliefs = self._beliefs()
            if beliefs is None:
                return str(self._bandit.select())
            values = beliefs.mean - beliefs.spread
            if self.priors is None or self._rng.random() < EXPLORED:
                values = self._rng.normal(beliefs.mean, beliefs.spread)
            return list(self.arms)[int(np.argmax(values))]

    def weights(
        self, arm: str, *, layout: BlockLayout, default: Mapping[str, float] | None = None
    ) -> Weights:
        """Returns the weights of an arm.

        Args:
            arm: Name of the arm.
            layout: The blocks.
            default: Weights of the blocks, if the arm names none; equal ones if None.

        Raises:
            BanditError: There is no such arm.
            WeightsError: The arm names a block that the layout does not have.
        """
        self._check_arm(arm)
        return Weights.from_mapping(self.arms[arm], layout=layout, default=default)

    def rivals(self, arm: str) -> Sequence[str]:
        """Returns all arms, `arm` first: each learns from the hits of every search.

        Raises:
            BanditError: There is no such arm.
        """
        self._check_arm(arm)
        return [arm, *(name for name in self.arms if name != arm)]

    def remember(
        self, query_id: str, orders: Mapping[str, Sequence[str]], *, asked: str | None = None
    ) -> None:
        """Keeps the best 64 hits of a search until `compare`.

        Args:
            query_id: Id of the search.
            orders: Ids of its hits by arm, for the `rivals` of the chosen arm, in the order that
                each would give them.
            asked: What was asked, the same for the same query, which counts once; None if that is
                not known.

        Raises:
            BanditError: The file cannot be written.
        """
        with translate_errors(self.path, "written"):
            self._shown.add(query_id, orders, asked=asked)

    def check(self, layout: BlockLayout) -> None:
        """Raises unless the weights of every arm fit the layout.

        Raises:
            WeightsError: An arm names a block that the layout does not have.
        """
        for arm in self.arms:
            self.weights(arm, layout=layout)

    def update(self, arm: str, value: float) -> None:
        """Updates the posterior of an arm with a reward in [0, 1].

        Raises:
            BanditError: There is no such arm, the reward is outside its range, or the file
                cannot be written.
        """
        self._check_arm(arm)
        earned = _within(value, (0, 1), of="reward")
        # A discount and the reward are one change.
        with translate_errors(self.path, "written"), self.connection.holding():
            self._bandit.update(arm, earned)

    def compare(self, arm: str, query_id: str, successes: Mapping[str, float]) -> None:
        """Compares all arms on the hits of a search; a second time does nothing.

        Args:
            arm: The arm that was chosen.
            query_id: Id of the search, as in `remember`.
            successes: Success in [0, 1] by id of hits; hits that are left out had none.

        Raises:
            BanditError: There is no such arm, a success is outside its range, an id was not
                among the hits, the hits are not kept, or the file cannot be written.
        """
        self._check_arm(arm)
        checked = check_successes(successes)
        with translate_errors(self.path, "written"), self.connection.holding():
            shown = self.take_hits(query_id, checked)
            if shown is not None:
                self.learn_orders(shown, checked)

    def take_hits(self, query_id: str, hits: Collection[str]) -> HitOrders | None:
        """Returns the hits of a search in every order, and forgets them; see `ShownHits.take`.

        Raises:
            BanditError: An id was not among the hits, or the hits are not kept.
        """
        return self._shown.take(query_id, hits)

    def learn_orders(self, shown: HitOrders, successes: Mapping[str, float]) -> None:
        """Adds the gains of arms on the same hits; of others, such as earlier arms, nothing.

        Nothing is learned if the reference, or all but it, are not among them, or if these hits
        could not tell one arm from another.
        """
        gains = shown.of_arms(self.arms.keys()).gains(successes)
        if self._comparisons.reference in gains:
            self._comparisons.add(gains, discount=self._discount)

    def best(self) -> str:
        """Returns the arm with the best belief.

        Without priors and comparisons, it is the arm with the most rewards; on a tie, the one with
        the highest mean. In the long run Thompson sampling chooses the best arm most often. The
        highest mean alone may be due to chance if the arm was tried only a few times.

        Raises:
            BanditError: The file cannot be read.
        """
        with translate_errors(self.path, "read"), self.connection.reading():
            beliefs = self._beliefs()
            if beliefs is not None:
                return list(self.arms)[int(np.argmax(beliefs.mean))]
            arms = self._bandit.get_arms()
        return str(max(arms, key=lambda arm: (arm.pulls, arm.mean)).arm_id)

    def posteriors(self) -> dict[str, tuple[float, float]]:
        """Returns (alpha, beta) of the Beta posterior of each arm."""
        with translate_errors(self.path, "read"), self.connection.reading():
            return {arm.arm_id: (arm.alpha, arm.beta) for arm in self._bandit.get_arms()}

    def _beliefs(self) -> Beliefs | None:
        """Returns the beliefs of all arms; None without priors and comparisons."""
        compared = self._comparisons.read()
        if self.priors is None and not compared:
            return None
        priors = self.priors or dict.fromkeys(self.arms, UNKNOWN)
        known = {arm.arm_id: arm for arm in self._bandit.get_arms()}
        rewards = []
        for name in self.arms:
            # The store starts an arm with one success and one failure that never were.
            alpha, beta = (known[name].alpha, known[name].beta) if name in known else (1.0, 1.0)
            rewards.append((max(alpha - 1, 0.0), max(alpha - 1, 0.0) + max(beta - 1, 0.0)))
        return form_beliefs(
            [priors[name] for name in self.arms],
            rewards=rewards,
            compared=[compared.get(name, Compared()) for name in self.arms],
            reference=list(self.arms).index(self._comparisons.reference),
        )

    def _check_arm(self, arm: str) -> None:
        if arm not in self.arms:
            raise BanditError(f"no arm '{arm}'; the arms are {', '.join(self.arms)}")


def learn(
    bandit: Bandit,
    *,
    log: UsageLog,
    query_id: str,
    ratings: Mapping[str, float] | float,
    namespace: str = "",
    scale: tuple[float, float] = (1, 5),
) -> str:
    """Updates a bandit with the ratings of a search whose weights it chose; only once per search.

    The bandit's file is written just before the log marks the search as rated. If the process is
    killed between the two, the search can be rated again, and the reward counts twice then.

    Args:
        bandit: The bandit that chose the weights.
        log: The usage log that holds the search.
        query_id: `Results.query_id` of the search.
        ratings: As in `reward`.
        namespace: Namespace of the search.
        scale: As in `reward`.

    Returns:
        The arm that was updated.

    Raises:
        BanditError: A rating is wrong, or a bandit did not choose the search's weights.
        UsageLogError: The log has no such search in the namespace, or it was rated before.
    """
    value = reward(ratings, scale=scale)
    with log.rating(query_id, namespace=namespace) as arm:
        if arm is None:
            raise BanditError(f"the weights of query '{query_id}' were not the bandit's choice")
        bandit.update(arm, value)
    return arm


def learn_from_hits(
    bandit: Bandit,
    *,
    log: UsageLog,
    query_id: str,
    successes: Mapping[str, float],
    namespace: str = "",
) -> str:
    """Updates all arms of a bandit with the success of the hits of a search; once per search.

    The bandit's file is written just before the log marks the search as rated. If the process is
    killed between the two, rating it again marks it, and what was learned counts once.

    Args:
        bandit: The bandit that chose the weights.
        log: The usage log that holds the search.
        query_id: `Results.query_id` of the search.
        successes: Success in [0, 1] by id of hits; hits that are left out had none.
        namespace: Namespace of the search.

    Returns:
        The arm that was chosen.

    Raises:
        BanditError: A success is wrong, an id was not among the hits, or a bandit did not choose
            the search's weights.
        UsageLogError: The log has no such search in the namespace, or it was rated before.
    """
    with log.rating(query_id, namespace=namespace) as arm:
        if arm is None:
            raise BanditError(f"the weights of query '{query_id}' were not the bandit's choice")
        bandit.compare(arm, query_id, successes)
    return arm


def check_successes(successes: Mapping[str, float]) -> dict[str, float]:
    """Returns successes by id.

    Raises:
        BanditError: They are no mapping, there are none, or one is not a number in [0, 1].
    """
    if not isinstance(successes, Mapping) or not successes:
        raise BanditError(
            f"hits are rated by a success for each id, such as {{'roses': 1}}, got "
            f"{successes!r:.60}"
        )
    return {
        str(hit): _within(value, (0, 1), of=f"success of '{hit!s:.60}'")
        for hit, value in successes.items()
    }


class _OwnArms:
    """A view of a store that lists only given arms, as other bandits may share the file."""

    def __init__(self, store: Any, *, names: frozenset[str]) -> None:
        self._store = store
        self._names = names

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get_all_arms(self) -> "list[ArmStats]":
        return [arm for arm in self._store.get_all_arms() if arm.arm_id in self._names]


def _read_arms(
    arms: Mapping[str, Mapping[str, Any]] | Iterable[str] | None,
) -> dict[str, Mapping[str, Any]]:
    if isinstance(arms, Mapping):
        read = dict(arms)
        for name, weights in read.items():
            if not isinstance(name, str) or not isinstance(weights, Mapping):
                raise BanditError(
                    f"arms are weights by name, such as {{'calm': {{'preset': 'balanced'}}}}; got "
                    f"{name!r:.60}: {weights!r:.60}"
                )
    elif isinstance(arms, str) or not isinstance(arms, Iterable | None):
        raise BanditError(f"arms are names of presets, or weights by name; got {arms!r:.60}")
    else:
        read = {
            name: {"riv": (0, 0, 1)} if name == RELEVANCE else {"preset": name}
            for name in (DEFAULT_ARMS if arms is None else arms)
        }
        for name in read:
            if name != RELEVANCE:
                find_preset(name)
    if not read:
        raise BanditError("a bandit needs one arm at least")
    return read


def _choose_priors(
    given: Mapping[str, Prior] | None, arms: Mapping[str, Any], *, named: bool
) -> dict[str, Prior] | None:
    """Returns the prior of each arm; None if arms have none."""
    if given is None or (named and given is PRIORS):
        return None
    missing = [name for name in arms if name not in given]
    if missing:
        raise BanditError(f"arm '{missing[0]}' has no prior; give one for each arm, or none")
    return {name: given[name] for name in arms}


def _within(value: Any, scale: tuple[float, float], *, of: str) -> float:
    number = isinstance(value, int | float | np.number)
    if not number or not scale[0] <= value <= scale[1]:
        raise BanditError(f"{of} must be between {scale[0]} and {scale[1]}, got {value!r:.60}")
    return float(value)


@contextmanager
def translate_errors(path: Path | str, done: str) -> Iterator[None]:
    """Turns errors of SQLite and of the store into a `BanditError` that names the file."""
    try:
        yield
    except BanditError:
        raise
    except (
        sqlite3.Error,
        OSError,
        KeyError,
        ValueError,
    ) as error:  # KeyError and ValueError come from damaged rows of arms
        raise BanditError(f"the bandit's file {path} cannot be {done}: {error}") from error
