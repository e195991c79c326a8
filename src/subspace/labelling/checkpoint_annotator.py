"""Labels from a checkpoint's own probes."""

import hashlib
import json
from collections.abc import Iterator, Sequence

from subspace.data.retrieval_sets import Document
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotation
from subspace.model import Checkpoint
from subspace.model.linear_heads import BlockProbes
from subspace.model.projection import digest_projection

_CHUNK = 1000


class CheckpointAnnotator:
    """Labels texts by what linear heads read from the checkpoint's blocks.

    Attributes:
        origin: `checkpoint:NAME`, the name of the checkpoint's folder.
        identity: Digest of the encoder's fingerprint, the projection and the probes.
        factors: What to label, some of those with a probe.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        probes: BlockProbes,
        *,
        encoder: CachedEncoder,
        name: str,
        factors: Sequence[str] | None = None,
    ) -> None:
        """Checks the factors.

        Args:
            checkpoint: Whose blocks are read.
            probes: What reads them.
            encoder: The checkpoint's, with its store.
            name: What the checkpoint is called.
            factors: What to label; all that there are probes of if None.

        Raises:
            ConfigError: There is no probe of a factor.
        """
        self.factors = tuple(probes.heads if factors is None else factors)
        unknown = [factor for factor in self.factors if factor not in probes.heads]
        if unknown:
            raise ConfigError(
                f"the checkpoint has no probe of {', '.join(unknown)}; it has probes of "
                f"{', '.join(probes.heads)}"
            )
        self.origin = f"checkpoint:{name}"
        self.identity = _digest(checkpoint, probes)
        self._projection = checkpoint.projection
        self._probes = probes
        self._encoder = encoder

    def annotate(
        self, documents: Sequence[Document], *, progress: bool = False
    ) -> Iterator[Annotation]:
        """Yields one annotation per document, in order; encodes what is not stored.

        Args:
            documents: What to label.
            progress: Shows a bar.
        """
        rows = self._encoder.rows([document.text for document in documents], progress=progress)
        for start in range(0, len(documents), _CHUNK):
            part = slice(start, start + _CHUNK)
            labels = self._probes.predict(self._projection(self._encoder.store.read(rows[part])))
            for place, document in enumerate(documents[part]):
                found = {factor: labels[factor][place] for factor in self.factors}
                yield Annotation(
                    id=document.id,
                    factors={
                        name: round(label, 3) if isinstance(label, float) else label
                        for name, label in found.items()
                    },
                )


def _digest(checkpoint: Checkpoint, probes: BlockProbes) -> str:
    classes = {factor: head.classes for factor, head in probes.heads.items()}
    about = [checkpoint.fingerprint.digest, digest_projection(checkpoint.projection), classes]
    digest = hashlib.sha256(json.dumps(about).encode())
    for head in probes.heads.values():
        digest.update(head.weight.tobytes() + head.bias.tobytes())
    return digest.hexdigest()
