"""FactoredBandit: presets and block weights learned side by side, not as pairs.

With 12 presets and 4 ways to weigh blocks there are 48 pairs, and each would need its own tries.
Two bandits, each choosing for itself and both learning from the same reward, need 16 arms' worth
of tries: what a preset is worth is averaged over the blocks it was tried with. They find the best
pair where the two add up, and a good one otherwise.
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

    An arm is called `PRESET`, with equal block weights, or `PRESET/BLOCKS`.

    Attributes:
        presets: Chooses the preset; its posteriors are those of presets alone.
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
        """Opens the posteriors in a file, or starts with none.

        Args:
            path: As `WeightBandit` takes it.
            blocks: Block weights by name, to choose from beside equal ones.
            presets: Names of presets; all if None.
            discount: As `WeightBandit` takes it.
            seed: Of both samplings; None for a new one each time.

        Raises:
            BanditError: As `WeightBandit` does, or a name is wrong.
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
                seed=None if seed is None else seed + 1,  # not the same draws as of the presets
                table=_BLOCK_TABLE,
                connection=self.presets.connection,
            )
        except BaseException:
            self.presets.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self.presets.close()  # the connection is one

    def choose(self) -> str:
        """A preset and block weights, each with the largest draw from its posteriors.

        Raises:
            BanditError: The file cannot be read.
        """
        return _join(self.presets.choose(), self.blocks.choose())

    def weights(self, arm: str, *, layout: BlockLayout) -> Weights:
        """The weights of an arm.

        Raises:
            BanditError: There is no such arm.
            WeightsError: The arm names a block that the layout does not have.
        """
        preset, blocks = self._part(arm)
        return Weights.from_mapping(
            {**self.presets.arms[preset], **self.blocks.arms[blocks]}, layout=layout
        )

    def check(self, layout: BlockLayout) -> None:
        """Whether the weights of every arm fit the blocks.

        Raises:
            WeightsError: Block weights name a block that the layout does not have.
        """
        for preset in self.presets.arms:
            for blocks in self.blocks.arms:
                self.weights(_join(preset, blocks), layout=layout)

    def update(self, arm: str, value: float) -> None:
        """Learns that an arm earned a reward in [0, 1].

        Raises:
            BanditError: There is no such arm, the reward is outside its range, or the file
                cannot be written.
        """
        preset, blocks = self._part(arm)
        with translate_errors(self.presets.path, "written"), self.presets.connection.holding():
            self.presets.update(preset, value)
            self.blocks.update(blocks, value)

    def best(self) -> str:
        """The preset and the block weights that it has learned of most often."""
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
