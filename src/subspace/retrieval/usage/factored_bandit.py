"""FactoredBandit: learns presets and block weights with one bandit each, instead of pairs.

12 presets and 4 sets of block weights make 48 pairs, each of which would have to be tried often.
Two bandits that choose independently and learn from the same reward have only 16 arms. The reward
of a preset is then averaged over the block weights that it was tried with. The two find the best
pair if their effects on the reward add up, and usually a good one otherwise.

Presets have priors, as in `WeightBandit`. Nothing is known of block weights before they are tried,
so these are explored, and until they are learned a search may be far below relevance alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from subspace.blocks import BlockLayout
from subspace.errors import BanditError
from subspace.retrieval.usage.bandit import WeightBandit, check_successes, translate_errors
from subspace.retrieval.usage.priors import PRIORS, Prior
from subspace.retrieval.weights import Weights

EQUAL = "equal"
_BLOCK_TABLE = "bandit_blocks"


class FactoredBandit:
    """Chooses a preset and block weights, and learns from the reward of the two together.

    The name of an arm is `PRESET/BLOCKS`, or `PRESET` for equal block weights.

    Attributes:
        presets: Chooses the preset; a `WeightBandit` on the same file has the same posteriors.
        blocks: Chooses the block weights.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        blocks: Mapping[str, Mapping[str, float]],
        presets: Iterable[str] | None = None,
        discount: float | None = None,
        seed: int | None = None,
        priors: Mapping[str, Prior] | None = PRIORS,
    ) -> None:
        """Opens the file of the posteriors; creates it if it does not exist.

        Args:
            path: As in `WeightBandit`.
            blocks: Block weights by name; equal weights are always a choice as well.
            presets: Names of presets, as the arms of a `WeightBandit`.
            discount: As in `WeightBandit`.
            seed: Seed of both samplings; None for a random one.
            priors: Of the presets, as in `WeightBandit`.

        Raises:
            BanditError: As in `WeightBandit`, or the name of block weights is not allowed.
            WeightsError: A preset is unknown.
        """
        for name in blocks:
            if not isinstance(name, str) or not name or "/" in name or name == EQUAL:
                raise BanditError(f"block weights cannot be called {name!r}: '/' parts an arm")
        own = {EQUAL: {}, **{name: {"blocks": weights} for name, weights in blocks.items()}}
        self.presets = WeightBandit(path, arms=presets, discount=discount, seed=seed, priors=priors)
        try:
            self.blocks = WeightBandit(
                path,
                arms=own,
                discount=discount,
                seed=None if seed is None else seed + 1,  # other random numbers than for presets
                table=_BLOCK_TABLE,
                connection=self.presets.connection,
            )
        except BaseException:
            self.presets.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self.presets.close()  # both bandits share this connection

    def choose(self) -> str:
        """Returns an arm: the preset and the block weights that each bandit chooses.

        Raises:
            BanditError: The file cannot be read.
        """
        return _join(self.presets.choose(), self.blocks.choose())

    def weights(
        self, arm: str, *, layout: BlockLayout, default: Mapping[str, float] | None = None
    ) -> Weights:
        """Returns the weights of an arm.

        Args:
            arm: Name of the arm.
            layout: The blocks.
            default: Not used: an arm that names no block weights stands for equal ones.

        Raises:
            BanditError: There is no such arm.
            WeightsError: The arm names a block that the layout does not have.
        """
        del default
        preset, blocks = self._part(arm)
        return Weights.from_mapping(
            {**self.presets.arms[preset], **self.blocks.arms[blocks]}, layout=layout
        )

    def check(self, layout: BlockLayout) -> None:
        """Raises unless the weights of every arm fit the layout.

        Raises:
            WeightsError: Block weights name a block that the layout does not have.
        """
        for preset in self.presets.arms:
            for blocks in self.blocks.arms:
                self.weights(_join(preset, blocks), layout=layout)

    def update(self, arm: str, value: float) -> None:
        """Updates the posteriors of the preset and of the block weights with a reward in [0, 1].

        Raises:
            BanditError: There is no such arm, the reward is outside its range, or the file
                cannot be written.
        """
        preset, blocks = self._part(arm)
        with translate_errors(self.presets.path, "written"), self.presets.connection.holding():
            self.presets.update(preset, value)
            self.blocks.update(blocks, value)

    def rivals(self, arm: str) -> Sequence[str]:
        """Returns `arm`, and the arms that differ from it in the preset or in the block weights.

        Raises:
            BanditError: There is no such arm.
        """
        preset, blocks = self._part(arm)
        others = [_join(other, blocks) for other in self.presets.arms if other != preset]
        others += [_join(preset, other) for other in self.blocks.arms if other != blocks]
        return [arm, *others]

    def remember(
        self, query_id: str, orders: Mapping[str, Sequence[str]], *, asked: str | None = None
    ) -> None:
        """Keeps the hits of a search until `compare`; see `WeightBandit.remember`."""
        self.presets.remember(query_id, orders, asked=asked)

    def compare(self, arm: str, query_id: str, successes: Mapping[str, float]) -> None:
        """Compares presets and block weights on the hits of a search; see `WeightBandit.compare`.

        Presets are compared under the block weights that were chosen, block weights under the
        preset that was.
        """
        preset, blocks = self._part(arm)
        checked = check_successes(successes)
        with translate_errors(self.presets.path, "written"), self.presets.connection.holding():
            shown = self.presets.take_hits(query_id, checked)
            if shown is None:
                return
            known = {name: self._part(name) for name in shown.places if self._knows(name)}
            presets = {name: p for name, (p, b) in known.items() if b == blocks}
            weights = {name: b for name, (p, b) in known.items() if p == preset}
            self.presets.learn_orders(shown.of_arms(presets), checked)
            self.blocks.learn_orders(shown.of_arms(weights), checked)

    def best(self) -> str:
        """Returns the best preset and the best block weights, as one arm."""
        return _join(self.presets.best(), self.blocks.best())

    def _part(self, arm: str) -> tuple[str, str]:
        preset, _, blocks = arm.partition("/")
        blocks = blocks or EQUAL
        if not self._knows(arm):
            raise BanditError(
                f"no arm '{arm}'; presets are {', '.join(self.presets.arms)}, block weights "
                f"{', '.join(self.blocks.arms)}"
            )
        return preset, blocks

    def _knows(self, arm: str) -> bool:
        preset, _, blocks = arm.partition("/")
        return preset in self.presets.arms and (blocks or EQUAL) in self.blocks.arms


def _join(preset: str, blocks: str) -> str:
    return preset if blocks == EQUAL else f"{preset}/{blocks}"
