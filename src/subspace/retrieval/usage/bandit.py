"""WeightBandit: learns by Thompson sampling which weights give good hits.

Each arm is a preset or a named set of weights, and has a Beta posterior over its mean reward.
Sampling and SQLite store are those of `kusp-dial` (module `thompson_bandits`), so a file that
kusp-dial wrote under the presets' names can be used as it is.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from subspace.blocks import BlockLayout
from subspace.errors import BanditError, install_command
from subspace.retrieval.presets import PRESETS, find_preset
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

    def weights(self, arm: str, *, layout: BlockLayout) -> Weights:
        """Returns the weights of an arm."""
        ...

    def check(self, layout: BlockLayout) -> None:
        """Raises `WeightsError` unless the weights of every arm fit the layout."""
        ...

    def update(self, arm: str, value: float) -> None:
        """Updates the posterior of an arm with a reward in [0, 1]."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class WeightBandit:
    """Chooses among named weights by Thompson sampling, and learns from rewards.

    Any number of threads may use one bandit, and any number of processes one file.

    Attributes:
        arms: Weights by the name of the arm, as `Weights.from_mapping` takes them.
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
        table: str = "bandit_arms",
        connection: HeldConnection | None = None,
    ) -> None:
        """Opens the file of the posteriors; creates it if it does not exist.

        Args:
            path: SQLite file of the posteriors; `:memory:` keeps them in memory.
            arms: Names of presets, or weights by name; all presets if None. Posteriors of other
                arms in the file are not changed.
            discount: Factor in (0, 1) by which alpha and beta of an arm are multiplied before
                each of its rewards, for rewards that change over time; None for no discount.
            seed: Seed of the sampling; None for a random one.
            table: Name of the table in the file.
            connection: An open connection to the file, to share it with another bandit.

        Raises:
            BanditError: The package kusp-dial is not installed, the file cannot be used, the
                discount is wrong, or there are no arms.
            WeightsError: A preset is unknown.
        """
        self.arms = _read_arms(arms)
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
        except BaseException:
            connection.close()
            raise
        self.path = path
        self.connection = connection
        self._bandit = ThompsonBandit(
            _OwnArms(store, names=frozenset(self.arms)), settings, np.random.default_rng(seed)
        )

    def close(self) -> None:
        """Closes the file."""
        with self.connection.lock:
            self.connection.close()

    def choose(self) -> str:
        """Returns the arm with the largest sample from its posterior.

        Raises:
            BanditError: The file cannot be read.
        """
        with translate_errors(self.path, "read"), self.connection.lock:
            return str(self._bandit.select())

    def weights(self, arm: str, *, layout: BlockLayout) -> Weights:
        """Returns the weights of an arm.

        Raises:
            BanditError: There is no such arm.
            WeightsError: The arm names a block that the layout does not have.
        """
        if arm not in self.arms:
            raise BanditError(f"no arm '{arm}'; the arms are {', '.join(self.arms)}")
        return Weights.from_mapping(self.arms[arm], layout=layout)

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
        if arm not in self.arms:
            raise BanditError(f"no arm '{arm}'; the arms are {', '.join(self.arms)}")
        earned = _within(value, (0, 1), of="reward")
        # A discount and the reward are one change.
        with translate_errors(self.path, "written"), self.connection.holding():
            self._bandit.update(arm, earned)

    def best(self) -> str:
        """Returns the arm with the most rewards; on a tie, the one with the highest mean.

        In the long run Thompson sampling chooses the best arm most often. The highest mean alone
        may be due to chance if the arm was tried only a few times.

        Raises:
            BanditError: The file cannot be read.
        """
        with translate_errors(self.path, "read"), self.connection.lock:
            arms = self._bandit.get_arms()
        return str(max(arms, key=lambda arm: (arm.pulls, arm.mean)).arm_id)

    def posteriors(self) -> dict[str, tuple[float, float]]:
        """Returns (alpha, beta) of the Beta posterior of each arm."""
        with translate_errors(self.path, "read"), self.connection.lock:
            return {arm.arm_id: (arm.alpha, arm.beta) for arm in self._bandit.get_arms()}


def learn(
    bandit: Bandit,
    *,
    log: UsageLog,
    query_id: str,
    ratings: Mapping[str, float] | float,
    scale: tuple[float, float] = (1, 5),
) -> str:
    """Updates a bandit with the ratings of a search whose weights it chose; only once per search.

    The bandit's file is written just before the log marks the search as rated. If the process is
    killed between the two, the search can be rated again.

    Args:
        bandit: The bandit that chose the weights.
        log: The usage log that holds the search.
        query_id: `Results.query_id` of the search.
        ratings: As in `reward`.
        scale: As in `reward`.

    Returns:
        The arm that was updated.

    Raises:
        BanditError: A rating is wrong, or a bandit did not choose the search's weights.
        UsageLogError: The log has no such search, or it was rated before.
    """
    value = reward(ratings, scale=scale)
    with log.rating(query_id) as arm:
        if arm is None:
            raise BanditError(f"the weights of query '{query_id}' were not the bandit's choice")
        bandit.update(arm, value)
    return arm


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
        read = {name: {"preset": name} for name in (PRESETS if arms is None else arms)}
        for name in read:
            find_preset(name)
    if not read:
        raise BanditError("a bandit needs one arm at least")
    return read


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
    except (
        sqlite3.Error,
        OSError,
        KeyError,
        ValueError,
    ) as error:  # KeyError and ValueError come from damaged rows of arms
        raise BanditError(f"the bandit's file {path} cannot be {done}: {error}") from error
