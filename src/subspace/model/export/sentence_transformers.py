"""Export of a model to a folder that `SentenceTransformer(folder)` opens without this package.

Where the library's own modules can compute the blocks, the folder holds nothing else. Otherwise it
holds modules of this package, and is opened with `trust_remote_code=True`.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from subspace.encoder import Encoder
from subspace.encoder.model_files import locate_model
from subspace.errors import CheckpointError, ConfigError, install_command
from subspace.files import check_writable, partial_folder
from subspace.model.export.library_modules import build_modules, library_suffices
from subspace.model.export.own_modules import open_folder, write_own_modules
from subspace.model.export.selection import Selection
from subspace.model.model import Model
from subspace.model.model_card import make_card

TOLERANCE = 1e-5
_LIBRARY = "sentence-transformers>=6.2"
_CHECKED_ON = ("Short.", "Two sentences. The second is a little longer, with 3 commas, or so.")


@dataclass(frozen=True)
class Exported:
    """Result of an export.

    Attributes:
        folder: The folder that was written.
        widths: Width of each block of a vector, in order.
        difference: The largest difference between its vectors and this package's, over all
            dimensions of a few texts.
        needs_code: Whether the folder holds modules of this package, and opens with
            `trust_remote_code=True` alone.
    """

    folder: Path
    widths: Mapping[str, int]
    difference: float
    needs_code: bool


def export_sentence_transformers(
    model: Model,
    folder: Path | str,
    *,
    weights: Mapping[str, float] | None = None,
    dims: Mapping[str, int] | None = None,
    card: Mapping[str, Any] | None = None,
) -> Exported:
    """Writes the folder atomically, and checks that it gives the same vectors.

    Args:
        model: The model. Classes that it learned from labels are in the queries, as in an index.
        folder: New or empty.
        weights: Weights by block to fold into the vectors, whose inner product is then the weighted
            mean of the blocks' cosines. None leaves each block at unit length, as `subspace embed`
            does.
        dims: Number of leading dimensions to keep, by block.
        card: Arguments of `model_card.make_card`, such as `report` and `licences`.

    Raises:
        ConfigError: The folder is not empty, the library is missing, the encoder runs in half
            precision, or a block or its dimensions cannot be chosen.
        EncoderError: The encoder cannot be loaded.
        CheckpointError: The encoder is another one, or the folder gives other vectors.
    """
    target = Path(folder)
    _check_folder(target)
    selection = Selection.make(
        model.projection, weights=weights, dims=dims, nearness=model.nearness
    )
    widths = selection.projection.layout.to_widths()
    with _quiet_library():
        encoder = _open_encoder(model)
        own = not _library_suffices(selection, model=model)
        name = target.resolve().name
        readme = make_card(
            model,
            name=name,
            use=_how_to_use(selection, name=name, own=own),
            cut=None if selection.is_complete(model.projection) else widths,
            library_name="sentence-transformers",
            pipeline_tag="sentence-similarity",
            **(card or {}),
        )
        place = target.resolve()  # a link to an empty folder stays a link
        with _partial(place) as partial:
            _save(partial, selection=selection, encoder=encoder, own=own)
            if own:
                write_own_modules(
                    partial,
                    selection,
                    fingerprint=model.fingerprint,
                    score_scales=model.score_scales,
                )
            (partial / "README.md").write_text(str(readme), encoding="utf-8")
            for path in partial.rglob("*.safetensors"):
                path.chmod(0o644)  # safetensors lets only its owner read it
            difference = _compare(partial, selection=selection, encoder=encoder)
            os.replace(partial, place)
    return Exported(folder=target, widths=widths, difference=difference, needs_code=own)


def _check_folder(folder: Path) -> None:
    try:
        if folder.resolve() == Path.cwd():
            raise ConfigError(
                f"{folder} is the working directory, which cannot be replaced: give a new folder"
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"{folder} is not empty: choose a new folder, or empty it first")
        check_writable(folder)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}") from error


def _open_encoder(model: Model) -> Encoder:
    """Opens the encoder; raises `ConfigError` if the library would run it differently."""
    encoder, fingerprint = model.open_encoder(), model.fingerprint
    if fingerprint.dtype != "float32":
        raise ConfigError(
            f"the checkpoint was trained on {fingerprint.dtype}, in which sentence-transformers "
            "would give vectors that agree to two digits: train with `data.encoder.dtype: "
            "float32` to export it"
        )
    return encoder


def _library_suffices(selection: Selection, *, model: Model) -> bool:
    """Tells whether the library's own modules give these blocks."""
    last = Encoder(replace(model.encoder, layers=(-1,))).fingerprint.layers
    return model.fingerprint.layers == last and library_suffices(
        selection, pooling=model.fingerprint.pooling
    )


@contextmanager
def _quiet_library() -> Iterator[None]:
    """Hides the library's progress bars; raises `ConfigError` if the library is missing."""
    from transformers.utils import logging

    shows_bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        from sentence_transformers.multi_vector_encoder import modules  # noqa: F401  # new in 6.0

        yield
    except ImportError as error:
        raise ConfigError(
            f"this export needs {_LIBRARY} ({error}); run: {install_command('export')}"
        ) from error
    finally:
        if shows_bars:
            logging.enable_progress_bar()


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Creates a temporary folder beside the target; removes it at the end unless it was moved."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(target.parent, name=target.name) as partial:
            yield partial
    except OSError as error:
        raise ConfigError(f"cannot write to {target}: {error}") from error


def _save(folder: Path, *, selection: Selection, encoder: Encoder, own: bool) -> None:
    """Writes the library's folder: its transformer, then the library's modules of the blocks."""
    import torch
    from sentence_transformers import SentenceTransformer

    fingerprint = encoder.fingerprint
    files = locate_model(encoder.spec.model, revision=encoder.spec.revision)
    options = {"dtype": torch.float32}
    loaded = SentenceTransformer(str(files.folder), device="cpu", model_kwargs=options)
    transformer: Any = loaded[0]
    transformer.max_seq_length = fingerprint.max_length
    transformer.unpad_inputs = False  # the modules of blocks need a row of tokens per text
    modules = [] if own else build_modules(selection, pooling=fingerprint.pooling)
    SentenceTransformer(
        modules=[transformer, *modules],
        device="cpu",
        prompts={"query": fingerprint.query_prompt, "document": fingerprint.document_prompt},
        # Texts without a task are documents, as in this package.
        default_prompt_name="document" if fingerprint.document_prompt else None,
        similarity_fn_name="cosine",
    ).save(str(folder), create_model_card=False)
    path = folder / "config_sentence_transformers.json"
    name, _, floor = _LIBRARY.partition(">=")
    settings = {**json.loads(path.read_text("utf-8")), "requirements": {name: f">={floor}"}}
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _compare(folder: Path, *, selection: Selection, encoder: Encoder) -> float:
    """Returns the largest difference between the folder's vectors and this package's.

    Raises:
        CheckpointError: The difference is above `TOLERANCE`.
    """
    opened = open_folder(folder, device="cpu")
    texts = [*_CHECKED_ON, "word " * 2 * encoder.fingerprint.max_length]
    documents = selection(encoder.encode(texts), queries=False)
    queries = selection(encoder.encode(texts, kind="query"), queries=True)
    found = np.stack([opened.encode_document(texts), opened.encode_query(texts)])
    difference = float(np.abs(found - np.stack([documents, queries])).max())  # nan if any is
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"sentence-transformers gives other vectors for this encoder (by {difference:.1g}): "
            "nothing was written"
        )
    return difference


def _how_to_use(selection: Selection, *, name: str, own: bool) -> str:
    """Writes the section of the card on how to use the folder and what a vector holds."""
    layout = selection.projection.layout
    blocks = ", ".join(f"{block} {width}" for block, width in layout.to_widths().items())
    weighted = len(layout) > 1 and len({*selection.scale.values(), 1.0}) > 1
    meaning = (
        "Each block has unit length: the inner product of two is the sum of the blocks' cosines."
    )
    if weighted:
        shares = ", ".join(f"{block} {scale**2:.3g}" for block, scale in selection.scale.items())
        meaning = (
            f"Weights are folded in ({shares}): vectors have unit length, and the inner product of "
            "two is the weighted mean of the blocks' cosines. Other weights need another export."
        )
    lines = [
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f'model = SentenceTransformer("{name}"{", trust_remote_code=True" if own else ""})',
        "documents = model.encode_document(texts)",
        "queries = model.encode_query(questions)",
    ]
    if len(layout) > 1:
        first = layout.names[0]
        differ = own or selection.projection.query is not None
        asked = f"{first}-query" if differ else first
        lines.append(f'model.encode(texts, task="{first}")  # that block of documents alone')
        lines.append(f'model.encode(questions, task="{asked}", prompt_name="query")')
    if own and not weighted and len(layout) > 1:
        lines.append(f'model.encode_query(questions, weights={{"{layout.names[-1]}": 1.0}})')
    lines += ["```", "", f"Block by block, a vector has the dimensions: {blocks}.", "", meaning]
    if own:
        lines += ["", "`subspace_modules.py` is the code that is run; it needs no other package."]
    return "\n".join(lines)
