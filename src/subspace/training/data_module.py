"""FactorData: labelled texts -> stored vectors -> batches of one source."""

import os
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from subspace.arrays import Ints, Vectors
from subspace.data.labels import Labels
from subspace.data.records import Split, read_records
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.fitting.pair_blocks import Together, check_pairs
from subspace.fitting.pair_moments import group_scatter
from subspace.fitting.stored_pairs import StoredPairs, read_pairs, store_pairs, training_pairs
from subspace.fitting.stored_sources import StoredSource, store_sources, training_statistics
from subspace.fitting.weak.weak_moments import WeakSupervision
from subspace.training.batches import Batch, BatchPlan, make_batch
from subspace.training.pair_batches import PairBatch, PairPlan
from subspace.training.step_loader import PlannedBatches, PreparedBatches, StepLoader, StepSampler
from subspace.training.training_data import HeadSpec, TrainingData

ENVIRONMENT_VARIABLE = "SUBSPACE_DATA"


class FactorData(pl.LightningDataModule):
    """Reads labelled sources, encodes what is not stored yet, and serves batches of vectors."""

    def __init__(
        self,
        sources: list[str] | None = None,
        exclude: list[str] | None = None,
        encoder: EncoderSpec = EncoderSpec(),  # noqa: B008 (frozen; the CLI shows its fields)
        store: str = "runs/embeddings",
        factors: list[str] | None = None,
        weak: WeakSupervision = WeakSupervision(),  # noqa: B008
        pairs: list[str] | None = None,
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
            encoder: The frozen text encoder.
            store: Folder of the embedding store.
            factors: Factors to draw batches for; left out, all that are labelled. The command
                line sets it to the names of the blocks.
            weak: Measures and rewrites to learn from beside the labels; none by default.
            pairs: Folders of queries and documents with judgements (BEIR layout), for the blocks
                `match` and `answer`; queries of the split `train` are learned from, all where
                the folder names no splits.
            origin_weights: How much labels count that no human gave, by their origin
                (`measures: 0.3`; `checkpoint` stands for `checkpoint:NAME` too); 1 where none is
                given, 0 leaves them out.
            batch_size: Texts per batch; a batch holds texts of one source.
            steps_per_epoch: Steps between two validations.
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
        self._spec = encoder
        self._store_root = store
        self._factors = factors
        self._weak = weak
        self._pair_paths = pairs or []
        self._origin_weights = origin_weights or {}
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._seed = seed
        self._sources: dict[str, StoredSource] = {}
        self._pairs: dict[str, StoredPairs] = {}
        self._encoder: CachedEncoder | None = None

    def prepare_data(self) -> None:
        """Reads the records and encodes what is not stored; interrupted, it goes on next time.

        Raises:
            ConfigError: No sources are given.
            RecordError: With every wrong line.
            EncoderError: The encoder cannot be had.
        """
        if self._sources:
            return
        paths = self._paths or [os.environ.get(ENVIRONMENT_VARIABLE, "")]
        if paths == [""]:
            raise ConfigError(
                "no data: give data.sources (files or folders of labelled JSONL), or set the "
                f"environment variable {ENVIRONMENT_VARIABLE} to a folder of sources"
            )
        if self._factors is not None:
            check_pairs(self._factors, given=bool(self._pair_paths))
        records = read_records(paths, exclude=self._exclude)
        pairs = read_pairs(self._pair_paths)
        encoder = CachedEncoder.open(self._spec, root=self._store_root)
        self._pairs = store_pairs(pairs, encoder=encoder, progress=True)
        self._sources = store_sources(
            records, encoder=encoder, origin_weights=self._origin_weights, progress=True
        )
        self._encoder = encoder

    @property
    def training_data(self) -> TrainingData:
        """What the training module has to know; statistics are of the training texts alone.

        Raises:
            ConfigError: No source has training texts.
        """
        encoder = self._require_encoder()
        train = self._part("train")
        if not train:
            raise ConfigError("no source has texts in the split 'train'")
        statistics = {
            name: training_statistics(source, encoder=encoder, weak=self._weak, progress=True)
            for name, source in self._sources.items()
        }
        return TrainingData(
            statistics={n: part for n, part in statistics.items() if part is not None},
            heads=tuple(
                HeadSpec.of(source, factor, column)
                for source, (labels, _) in train.items()
                for factor, column in labels.columns.items()
            ),
            encoder_model=self._spec.model,
            fingerprint=encoder.encoder.fingerprint,
            data_sha256={name: self._sources[name].sha256 for name in train},
            recipe={
                "weak": asdict(self._weak),
                **({"origin_weights": self._origin_weights} if self._origin_weights else {}),
                # Apart from sources, which may have the same names.
                "pairs_sha256": {name: pairs.sha256 for name, pairs in self._pairs.items()},
            },
            together=self._together(train) if self._pairs else None,
        )

    def _together(self, train: Mapping[str, tuple[Labels, Ints]]) -> Together:
        """What pairs, halves of texts and groups of the training texts say."""
        vectors = self.vectors
        stored = [training_pairs(pairs, vectors=vectors) for pairs in self._pairs.values()]
        groups = [
            group_scatter(vectors, rows=rows, groups=labels.groups)
            for labels, rows in train.values()
        ]
        return Together(
            sets={name: part for name, (part, _) in zip(self._pairs, stored, strict=True)},
            halves=[scatter for _, scatter in stored if scatter is not None],
            groups=[scatter for scatter in groups if scatter is not None],
        )

    def train_dataloader(self) -> "DataLoader[Batch | PairBatch]":
        """Batches by (seed, step), starting where the trainer stands."""
        parts = self._part("train")
        labelled = dict.fromkeys(f for labels, _ in parts.values() for f in labels.columns)
        factors = tuple(f for f in labelled if self._factors is None or f in self._factors)
        plan = BatchPlan(
            sources=tuple(labels for labels, _ in parts.values()),
            factors=factors,
            size=self._batch_size,
            seed=self._seed,
        )
        batches = PlannedBatches(
            plan,
            vectors=self.vectors,
            rows=[rows for _, rows in parts.values()],
            pairs=self._pair_plans("train"),
        )
        return StepLoader(
            batches, batch_size=None, sampler=StepSampler(self.trainer, self._steps_per_epoch)
        )

    def val_dataloader(self) -> "DataLoader[Batch | PairBatch]":
        """One batch per source: its validation texts, at most four training batches' worth."""
        return self._whole_sources("validation")

    def test_dataloader(self) -> "DataLoader[Batch | PairBatch]":
        """One batch per source: its test texts, at most four training batches' worth."""
        return self._whole_sources("test")

    def _whole_sources(self, split: Split) -> "DataLoader[Batch | PairBatch]":
        order = {name: position for position, name in enumerate(self._part("train"))}
        batches: list[Batch | PairBatch] = [plan.draw(0) for plan in self._pair_plans(split)]
        for name, (labels, rows) in self._part(split).items():
            if name not in order or len(rows) < 2:
                continue
            kept = _first_groups(labels.groups, limit=4 * self._batch_size)
            batches.append(
                make_batch(
                    self.vectors,
                    source=order[name],
                    labels=labels.take(kept),
                    rows=rows[kept],
                )
            )
        if not batches:
            raise ConfigError(
                f"no source that has training texts has two texts or more in the split '{split}'; "
                "label some with it, or leave `split` out of the records to have it assigned"
            )
        return DataLoader(PreparedBatches(batches), batch_size=None)

    def _pair_plans(self, split: Split) -> list[PairPlan]:
        """One per set of pairs that has some in the split; validation draws larger batches."""
        encoder = self._require_encoder()
        return [
            PairPlan(
                queries=encoder.store.read(pairs.queries),
                documents=encoder.store.read(pairs.documents),
                pairs=pairs.pairs_of(split),
                size=self._batch_size if split == "train" else 4 * self._batch_size,
                seed=self._seed,
                raw=encoder.encoder.fingerprint.last_layer,
            )
            for pairs in self._pairs.values()
            if len(pairs.pairs_of(split))
        ]

    def _part(self, split: Split) -> Mapping[str, tuple[Labels, Ints]]:
        """Labels and rows of one split, by source; sources without texts in it are left out."""
        parts = {}
        for name, source in self._sources.items():
            positions = source.labels.positions(split)
            if len(positions):
                parts[name] = (source.labels.take(positions), source.rows[positions])
        return parts

    @property
    def sources(self) -> Mapping[str, StoredSource]:
        """The labelled sources by name, once they are read."""
        return self._sources

    @property
    def pairs(self) -> Mapping[str, StoredPairs]:
        """The sets of queries and documents by name, once they are read."""
        return self._pairs

    @property
    def mapped_bytes(self) -> int:
        """Size of the memory-mapped file of vectors."""
        return self.vectors.nbytes

    @property
    def vectors(self) -> Vectors:
        """All stored embeddings (rows, D)."""
        return self._require_encoder().store.vectors

    def _require_encoder(self) -> CachedEncoder:
        if self._encoder is None:
            self.prepare_data()
        assert self._encoder is not None
        return self._encoder


def _first_groups(groups: Ints, *, limit: int) -> Ints:
    """Positions of about `limit` texts, no group cut in two, spread over the source.

    The sort is stable and what is drawn hangs on nothing but the numbers: the same in every run.
    """
    order = np.argsort(groups, kind="stable")
    if len(order) <= limit:
        return order
    starts = np.flatnonzero((groups[order] < 0) | (np.diff(groups[order], prepend=-2) != 0))
    ends = np.append(starts[1:], len(order))
    # Evenly through the file: its beginning is often of one kind.
    drawn = np.random.default_rng(0).permutation(len(starts))
    whole = drawn[np.cumsum((ends - starts)[drawn]) <= limit]
    whole = np.sort(whole) if len(whole) else drawn[:1]
    return np.concatenate([order[starts[g] : ends[g]] for g in whole])
