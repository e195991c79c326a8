"""Opens annotators by name, with the model and the encoder that they need."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from subspace.data.records import Record
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotator
from subspace.labelling.checkpoint_annotator import CheckpointAnnotator
from subspace.labelling.clusters import ClustersAnnotator
from subspace.labelling.feature_annotator import FeatureAnnotator
from subspace.model import Model, load

FEATURES, CHECKPOINT, CLUSTERS = "features", "checkpoint", "clusters"
# Cannot be opened by name: it needs a rubric and an endpoint, so it is given as an object.
LANGUAGE_MODEL = "language-model"
ANNOTATORS = (FEATURES, CHECKPOINT, CLUSTERS, LANGUAGE_MODEL)


@dataclass(frozen=True, kw_only=True)
class AnnotatorSettings:
    """Settings of the annotators that are opened by name.

    Attributes:
        checkpoint: The model, as `subspace.load` takes it. The annotator `checkpoint` uses its
            heads, and `clusters` its encoder.
        encoder: Folder or hub id of the encoder. None stands for the encoder that the checkpoint
            names, or for `minilm` without a checkpoint.
        layers: Hidden layers that are stored for `clusters` without a checkpoint. Only the last
            one is clustered; a later fit can use the others.
        store: Folder of stored embeddings.
    """

    checkpoint: Path | str | None = None
    encoder: str | None = None
    layers: tuple[int, ...] = (-1,)
    store: Path | str = "runs/embeddings"

    @cached_property
    def model(self) -> Model:
        """The model of the checkpoint.

        Raises:
            ConfigError: No checkpoint is given.
            CheckpointError: It cannot be loaded.
        """
        if self.checkpoint is None:
            raise ConfigError("--by checkpoint needs --checkpoint")
        return load(self.checkpoint, encoder=self.encoder)

    @cached_property
    def cached_encoder(self) -> CachedEncoder:
        """The encoder with its store.

        Raises:
            CheckpointError: The checkpoint cannot be loaded, or was made for another encoder.
            EncoderError: The encoder cannot be loaded.
            StoreError: The store cannot be used.
        """
        if self.checkpoint is None:
            spec = EncoderSpec(model=self.encoder or "minilm", layers=self.layers)
            return CachedEncoder.open(spec, root=self.store)
        opened = CachedEncoder.open(self.model.encoder, root=self.store)
        self.model.check_encoder(opened.encoder.fingerprint)
        return opened


def open_annotators(
    by: Sequence[str | Annotator],
    records: Sequence[Record],
    *,
    factors: Sequence[str],
    settings: AnnotatorSettings,
    progress: bool = False,
) -> list[Annotator]:
    """Opens annotators; leaves out those that label none of the factors.

    Args:
        by: `features`, `checkpoint`, `clusters`, or annotators that are open already.
        records: All texts to label; clusters are found among them.
        factors: The factors to label.
        settings: Settings of the annotators that are opened by name.
        progress: Whether to show a progress bar while clusters are found.

    Raises:
        ConfigError: A name is unknown, no annotator labels one of the factors, the checkpoint is
            not given or has no heads, or there are too few texts for clusters.
        CheckpointError: The checkpoint cannot be loaded, or was made for another encoder.
        EncoderError: The encoder cannot be loaded.
        StoreError: The store cannot be used.
    """
    opened = [_open(one, settings=settings) for one in by]
    known = [ClustersAnnotator.factors if one is None else one.factors for one in opened]
    names = [one if isinstance(one, str) else one.origin for one in by]
    missing = [factor for factor in factors if not any(factor in own for own in known)]
    if missing:
        can = "; ".join(f"{n} labels {', '.join(own)}" for n, own in zip(names, known, strict=True))
        raise ConfigError(f"--factors: no annotator labels {', '.join(missing)} ({can})")
    return [
        one or ClustersAnnotator.fit(records, encoder=settings.cached_encoder, progress=progress)
        for one, own in zip(opened, known, strict=True)
        if set(own) & set(factors)
    ]


def _open(one: str | Annotator, *, settings: AnnotatorSettings) -> Annotator | None:
    """Opens one annotator; None for clusters, which take time to find."""
    if not isinstance(one, str):
        return one
    if one == FEATURES:
        return FeatureAnnotator()
    if one == CLUSTERS:
        return None
    if one == CHECKPOINT:
        name = Path(str(settings.checkpoint)).resolve().name
        return CheckpointAnnotator(settings.model, encoder=settings.cached_encoder, name=name)
    if one == LANGUAGE_MODEL:
        raise ConfigError(
            "--by: a language model needs a rubric and an endpoint; give a LanguageModelAnnotator"
        )
    raise ConfigError(f"--by: there is no annotator '{one}'; there are {', '.join(ANNOTATORS)}")
