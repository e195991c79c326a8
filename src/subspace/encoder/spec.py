"""EncoderSpec: which encoder to load and how to run it."""

from dataclasses import dataclass

from subspace.encoder.fingerprint import Fingerprint


@dataclass(frozen=True)
class EncoderSpec:
    r"""What to load and how to run it; whatever is None is read from the model's own files.

    Attributes:
        model: `minilm` (embedded, needs no network), a folder, or a hub id such as
            `Qwen/Qwen3-Embedding-0.6B`.
        revision: Commit of the hub repository; pin it, since a branch can change.
        pooling: `mean`, `cls`, `lasttoken` or `max`.
        early_pooling: Pooling of the layers before the last: one of these, or `own mean`, which
            leaves out the tokens of the prompt and special ones, and takes each of the others at
            unit length. None for `mean` if that is `pooling`, else for `own mean`.
        query_prompt: Put before queries, for Qwen3 `Instruct: {task}\nQuery:`.
        document_prompt: Put before documents.
        layers: Hidden layers to pool, side by side in one vector; 0 are the token embeddings,
            -1 the last layer. Several cost no extra forward pass.
        max_length: Cut texts after so many tokens.
        dtype: `float32`, `bfloat16`, or `auto`: bfloat16 where the processor has it and the
            vectors of a few texts then agree with those of float32 (cosine 0.999 or more).
        device: `cpu`, `cuda`, or None for the best there is.
        batch_tokens: Tokens per forward pass; None for what the device works fastest with. A
            longer text comes alone.
        backend: What computes: `torch`, `openvino`, `onnx`, or `auto`: a model that was converted
            for the first of these runtimes that is installed, if its vectors agree with those of
            torch, else torch. The environment variable SUBSPACE_ENCODER_BACKEND says what `auto`
            is.
    """

    model: str = "minilm"
    revision: str | None = None
    pooling: str | None = None
    early_pooling: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    layers: tuple[int, ...] = (-1,)
    max_length: int | None = None
    dtype: str = "float32"
    device: str | None = None
    batch_tokens: int | None = None
    backend: str = "auto"

    @classmethod
    def from_fingerprint(cls, fingerprint: Fingerprint, *, model: str) -> "EncoderSpec":
        """Returns the spec with which `model` gives exactly the vectors of `fingerprint`.

        Every setting is explicit, so that the files beside another copy of the model cannot
        change it.

        Args:
            fingerprint: The encoder to reproduce.
            model: Where to load it from: `minilm`, a folder, or a hub id.
        """
        on_hub = not fingerprint.revision.startswith("sha256:")
        return cls(
            model=model,
            revision=fingerprint.revision if on_hub else None,
            pooling=fingerprint.pooling,
            early_pooling=fingerprint.early_pooling or fingerprint.pooling,
            query_prompt=fingerprint.query_prompt,
            document_prompt=fingerprint.document_prompt,
            layers=fingerprint.layers,
            max_length=fingerprint.max_length,
            dtype=fingerprint.dtype,
        )
