"""FactoredBandit: learns presets and block weights with one bandit each, instead of pairs.

12 presets and 4 sets of block weights make 48 pairs, each of which would have to be tried often.
Two bandits that choose independently and learn from the same reward have only 16 arms. The reward
of a preset is then averaged over the block weights that it was tried with. The two find the best
pair if their effects on the reward add up, and usually a good one otherwise.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from subspace.blocks import BlockLayout
from subspace.errors import BanditError
from subspace.retrieval.usage.bandit import WeightBandit, translate_errors
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
    ) -> None:
        """Opens the file of the posteriors; creates it if it does not exist.

        Args:
            path: As in `WeightBandit`.
            blocks: Block weights by name; equal weights are always a choice as well.
            presets: Names of presets; all presets if None.
            discount: As in `WeightBandit`.
            seed: Seed of both samplings; None for a random one.

        Raises:
            BanditError: As in `WeightBandit`, or the name of block weights is not allowed.
            WeightsError: A preset is unknown.
        """
        for name in blocks:
            if not isinstance(name, str) or not name or "/" in name or name == EQUAL:
                raise BanditError(f"block weights cannot be called {name!r}: '/' parts an arm")
        own = {EQUAL: {}, **{name: {"blocks": weights} for name, weights in blocks.items()}}
        self.presets = WeightBandit(path, arms=presets, discount=discount, seed=seed)
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
        """Returns an arm: preset and block weights with the largest samples from their posteriors.

        Raises:
            BanditError: The file cannot be read.
        """
        return _join(self.presets.choose(), self.blocks.choose())

    def weights(self, arm: str, *, layout: BlockLayout) -> Weights:
        """Returns the weights of an arm.

        Raises:
            BanditError: There is no such arm.
            WeightsError: The arm names a block that the layout does not have.
        """
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

    def best(self) -> str:
        """Returns the preset and the block weights with the most rewards, as one arm."""
        return _join(self.presets.best(), self.blocks.best())

    def _part(self, arm: str) -> tuple[str, str]:
        preset, _, blocks = arm.partition("/")
        blocks = blocks or EQUAL
        if preset not in self.presets.arms or blocks not in self.blocks.arms:
            raise BanditError(
                f"no arm '{arm}'; presets are {', '.join(self.presets.arms)}, block weights "
                f"{', '.join(self.blocks.arms)}"
            )
        return preset, blocks


def _join(preset: str, blocks: str) -> str:
    return preset if blocks == EQUAL else f"{preset}/{blocks}"
