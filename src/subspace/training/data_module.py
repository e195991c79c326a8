"""FactorData: encodes labelled texts and serves batches of their vectors to the trainer."""

import os
from collections.abc import Mapping
from typing import Any, Self, cast

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from subspace.arrays import Ints
from subspace.data.records import read_sources
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError
from subspace.fitting.block_spec import DEFAULT_LAYERS, read_blocks
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData
from subspace.fitting.recipe import Recipe
from subspace.fitting.stored_sources import StoredSource
from subspace.fitting.weak.weak_supervision import WeakSupervision
from subspace.training.batches import Batch, BatchPlan, make_batch
from subspace.training.step_loader import (
    EveryBatch,
    PlannedBatches,
    PreparedBatches,
    StepLoader,
    StepSampler,
)
from subspace.training.trainer_checks import check_interval
from subspace.training.training_parts import Part, take_parts, training_parts

ENVIRONMENT_VARIABLE = "SUBSPACE_DATA"


class FactorData(pl.LightningDataModule):
    """Reads labelled sources, encodes what is not stored yet, and serves batches of vectors."""

    def __init__(
        self,
        sources: list[str] | None = None,
        exclude: list[str] | None = None,
        held_out: list[str] | None = None,
        encoder: EncoderSpec = EncoderSpec(layers=DEFAULT_LAYERS),  # noqa: B008 (frozen)
        store: str = DEFAULT_STORE,
        weak: WeakSupervision = WeakSupervision(),  # noqa: B008
        origin_weights: dict[str, float] | None = None,
        batch_size: int = 512,
        steps_per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        """Keeps the settings; nothing is read before `prepare_data`.

        Args:
            sources: Files or folders of labelled JSONL. Left out, the folder named by the
                environment variable SUBSPACE_DATA.
            exclude: Names of sources to leave out.
            held_out: Names of sources that nothing is learned from: training is judged, and
                stopped, by them. Left out, it is judged by the validation texts of all sources.
            encoder: The frozen text encoder.
            store: Folder of the embedding store.
            weak: What to learn from texts beyond their labels; nothing by default.
            origin_weights: How much labels count that no human gave, by their origin
                (`features: 0.3`; `checkpoint` stands for `checkpoint:NAME` too); 1 where none is
                given, 0 leaves them out.
            batch_size: Texts per batch; a batch holds texts of one source.
            steps_per_epoch: Batches between two validations.
            seed: Decides, together with the step, what is in each batch.

        Raises:
            ConfigError: A number is out of range.
        """
        super().__init__()
        if batch_size < 2 or steps_per_epoch < 1 or seed < 0:
            raise ConfigError(
                f"data.batch_size must be 2 or more (got {batch_size}), data.steps_per_epoch 1 "
                f"or more (got {steps_per_epoch}), data.seed 0 or more (got {seed})"
            )
        for origin, weight in (origin_weights or {}).items():
            if not 0 <= weight < float("inf"):
                raise ConfigError(
                    f"data.origin_weights: '{origin}' must be 0 or more, got {weight}"
                )
        self._paths = sources
        self._exclude = exclude or []
        self._held_out_names = held_out or []
        self._spec = encoder
        self._store = store
        self._weak = weak
        self._origin_weights = origin_weights or {}
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._seed = seed
        self._data: FittingData | None = None
        self._held_out: Mapping[str, StoredSource] = {}

    @classmethod
    def encoded(
        cls,
        data: FittingData,
        *,
        recipe: Recipe,
        held_out: Mapping[str, StoredSource] | None = None,
        **settings: Any,
    ) -> Self:
        """Makes a data module from texts that are encoded already.

        Args:
            data: Data to learn from.
            recipe: Recipe with the `weak` and `origin_weights` that `data` was collected with.
            held_out: Sources to validate on, encoded in the same store.
            settings: `batch_size`, `steps_per_epoch` and `seed`.
        """
        made = cls(weak=recipe.weak, origin_weights=dict(recipe.origin_weights), **settings)
        made._data, made._held_out = data, held_out or {}
        return made

    def prepare_data(self) -> None:
        """Reads the records and encodes the texts that are not stored yet.

        If it is interrupted, the next call does not encode again what is stored.

        Raises:
            ConfigError: No sources are given, a held-out source does not exist, or all sources are
                held out.
            RecordError: Some lines are wrong. The message lists all of them.
            EncoderError: The encoder cannot be loaded.
        """
        if self._data is not None:
            return
        paths = self._paths or [os.environ.get(ENVIRONMENT_VARIABLE, "")]
        if paths == [""]:
            raise ConfigError(
                "no data: give data.sources (files or folders of labelled JSONL), or set the "
                f"environment variable {ENVIRONMENT_VARIABLE} to a folder of sources"
            )
        records = read_sources(paths, exclude=self._exclude)
        unknown = sorted(set(self._held_out_names) - set(records))
        if unknown:
            raise ConfigError(
                f"data.held_out: there is no source '{unknown[0]}'; there are {', '.join(records)}"
            )
        if set(self._held_out_names) == set(records):
            raise ConfigError("data.held_out names all sources, so there is none to learn from")
        everything = FittingData.encode(
            records,
            encoder=self._spec,
            weak=self._weak,
            origin_weights=self._origin_weights,
            store=self._store,
            progress=True,
        )
        self._held_out = {name: everything.sources[name] for name in self._held_out_names}
        self._data = everything.without(*self._held_out_names)

    @property
    def fitting_data(self) -> FittingData:
        """Data to learn from, without the held-out sources. Moments are of training texts only."""
        if self._data is None:
            self.prepare_data()
        assert self._data is not None
        return self._data

    @property
    def held_out(self) -> Mapping[str, StoredSource]:
        """Held-out sources, which nothing is learned from; empty before the data is read."""
        return self._held_out

    def recipe(self, blocks: Mapping[str, Any] | None) -> Recipe:
        """Returns the recipe for some blocks; for the default blocks if None.

        Raises:
            ConfigError: A setting of a block is wrong.
            LayoutError: A name or a width is wrong.
        """
        return Recipe(
            blocks=read_blocks(blocks) if blocks else self.fitting_data.default_blocks(),
            weak=self._weak,
            origin_weights=self._origin_weights,
        )

    def train_dataloader(self) -> "DataLoader[Batch]":
        """Returns batches that depend on (seed, step) alone, from the trainer's step on.

        Raises:
            ConfigError: No block has a factor that training texts are labelled with.
        """
        parts = training_parts(self.fitting_data)
        trainer = cast(Any, self.trainer)
        blocks = set(trainer.lightning_module.layout.names)
        # A factor with one labelled text gives no pairs to contrast.
        labelled = dict.fromkeys(
            factor
            for part in parts.values()
            for factor, column in part.labels.columns.items()
            if factor in blocks and len(column.labelled) > 1
        )
        if not labelled:
            raise ConfigError(
                f"no training text is labelled with {' or '.join(sorted(blocks))}, so there is "
                "nothing to train on; use model.solver: closed_form"
            )
        plan = BatchPlan(
            sources=tuple(part.labels for part in parts.values()),
            factors=tuple(labelled),
            size=self._batch_size,
            seed=self._seed,
        )
        check_interval(trainer, steps_per_epoch=self._steps_per_epoch)
        batches = PlannedBatches(
            plan, vectors=self.fitting_data.vectors, rows=[part.rows for part in parts.values()]
        )
        return StepLoader(
            batches, batch_size=None, sampler=StepSampler(trainer, self._steps_per_epoch)
        )

    def val_dataloader(self) -> "DataLoader[Batch]":
        """Returns one batch per source, with at most as many texts as four training batches.

        The texts are the training and validation texts of the held-out sources. Without held-out
        sources they are the validation texts of all sources.
        """
        if self._held_out:
            return self._whole_sources(take_parts(self._held_out, "train", "validation"))
        return self._whole_sources(take_parts(self.fitting_data.sources, "validation"))

    def test_dataloader(self) -> "DataLoader[Batch]":
        """Returns one batch of test texts per source, at most as large as four training batches."""
        return self._whole_sources(
            take_parts({**self.fitting_data.sources, **self._held_out}, "test")
        )

    def _whole_sources(self, parts: Mapping[str, Part]) -> "DataLoader[Batch]":
        order = {name: position for position, name in enumerate(training_parts(self.fitting_data))}
        batches = []
        for name, part in parts.items():
            if len(part.rows) < 2:
                continue
            kept = _first_groups(part.labels.groups, limit=4 * self._batch_size)
            batches.append(
                make_batch(
                    self.fitting_data.vectors,
                    source=order.get(name, -1),
                    labels=part.labels.take(kept),
                    rows=part.rows[kept],
                )
            )
        if not batches:
            raise ConfigError(
                "no source has two texts or more to judge training by: label some texts with the "
                "splits 'validation' and 'test', leave `split` out of the records to have it "
                "assigned, or name sources in data.held_out"
            )
        prepared = PreparedBatches(batches)
        return DataLoader(prepared, batch_size=None, sampler=EveryBatch(prepared))


def _first_groups(groups: Ints, *, limit: int) -> Ints:
    """Returns the positions of at most `limit` texts in whole groups, drawn from all groups.

    A single group that is larger than `limit` may be returned. The result is the same in every
    run, since the sort is stable and the seed is fixed.
    """
    order = np.argsort(groups, kind="stable")
    if len(order) <= limit:
        return order
    starts = np.flatnonzero((groups[order] < 0) | (np.diff(groups[order], prepend=-2) != 0))
    ends = np.append(starts[1:], len(order))
    # Groups are drawn from the whole file, since texts at its beginning are often of one kind.
    drawn = np.random.default_rng(0).permutation(len(starts))
    whole = drawn[np.cumsum((ends - starts)[drawn]) <= limit]
    whole = np.sort(whole) if len(whole) else drawn[:1]
    return np.concatenate([order[starts[g] : ends[g]] for g in whole])
