"""Finding and making converted models: which runtime, whether it agrees, where it is kept."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from subspace.encoder.backends.converted import (
    FORMAT_VERSION,
    MANIFEST,
    ConvertedModel,
    folder_of,
    read_manifest,
)
from subspace.encoder.backends.runtimes import chosen_runtimes, find_missing
from subspace.encoder.fingerprint import Fingerprint
from subspace.errors import EncoderError
from subspace.files import partial_folder

_log = logging.getLogger(__name__)

# Models whose weights take more bytes on disk are converted only if the backend is named.
LARGEST = 1_000_000_000


class ConversionRefusedError(Exception):
    """A model cannot be converted, or the converted one gives other vectors than torch."""


def find_converted(fingerprint: Fingerprint, *, backend: str) -> ConvertedModel | None:
    """Finds a model that was converted before; None if there is none, or torch is to compute.

    Args:
        fingerprint: Determines the vectors.
        backend: As in an `EncoderSpec`.

    Raises:
        EncoderError: There is no such backend, or it is named and not installed or too old.
    """
    runtimes, required = chosen_runtimes(backend)
    for runtime in runtimes:
        found = ConvertedModel.read(runtime, fingerprint=fingerprint, required=required)
        if found is not None:
            return found
    return None


def convert(
    backend: str, *, fingerprint: Fingerprint, folder: Path, lowercase: bool
) -> ConvertedModel | None:
    """Finds a converted model, or converts one, which takes seconds.

    Args:
        backend: As in an `EncoderSpec`.
        fingerprint: Determines the vectors.
        folder: The files of the model in torch.
        lowercase: Whether texts are lower-cased before tokenisation.

    Returns:
        None if torch is to compute: no runtime is installed, the model cannot be converted, or it
        is too large to be converted unasked.

    Raises:
        EncoderError: The backend is named, and is not installed or too old, cannot run the model,
            or gives other vectors.
    """
    found = find_converted(fingerprint, backend=backend)
    if found is not None:
        return found
    runtimes, required = chosen_runtimes(backend)
    for runtime in runtimes:
        try:
            _make(
                runtime,
                fingerprint=fingerprint,
                folder=folder,
                lowercase=lowercase,
                required=required,
            )
        except ConversionRefusedError as error:
            if required:
                raise EncoderError(f"backend '{runtime}' cannot be used: {error}") from error
            _log.info("the encoder stays with torch rather than %s: %s", runtime, error)
            continue
        return ConvertedModel.read(runtime, fingerprint=fingerprint, required=required)
    return None


def _make(
    runtime: str, *, fingerprint: Fingerprint, folder: Path, lowercase: bool, required: bool
) -> None:
    """Converts a model, and keeps it, or why it was refused.

    Raises:
        ConversionRefusedError: It cannot be converted, was refused before, or is too large.
    """
    target = folder_of(runtime, fingerprint=fingerprint)
    before = read_manifest(target, fingerprint=fingerprint)
    if before is not None and "refused" not in before:
        return  # another process was faster
    if before is not None and not required:
        raise ConversionRefusedError(before["refused"])
    missing = find_missing(runtime)
    if missing:
        raise ConversionRefusedError(missing)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if size > LARGEST and not required:
        raise ConversionRefusedError(
            f"its weights take {size / 1e9:.1f} GB, and more than {LARGEST / 1e9:.0f} GB are "
            f"converted only with backend='{runtime}'"
        )
    from subspace.encoder.backends.conversion import write_model

    manifest = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint.to_json()}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial_folder(target.parent, name=target.name) as partial:
            refused = ""
            try:
                manifest |= write_model(
                    partial,
                    runtime=runtime,
                    fingerprint=fingerprint,
                    source=folder,
                    lowercase=lowercase,
                )
            except ConversionRefusedError as error:
                refused = str(error)
                manifest |= {"files": {}, "refused": refused}
            _put_in_place(partial, target, manifest=manifest, fingerprint=fingerprint)
    except ImportError as error:
        raise ConversionRefusedError(f"{runtime} cannot be imported: {error}") from error
    except OSError as error:
        raise ConversionRefusedError(f"{target} cannot be written: {error}") from error
    if refused:
        raise ConversionRefusedError(refused)


def _put_in_place(
    partial: Path, target: Path, *, manifest: dict[str, Any], fingerprint: Fingerprint
) -> None:
    text = json.dumps(manifest, indent=1) + "\n"
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    if "refused" in manifest:
        for file in partial.iterdir():
            if file.name != MANIFEST:
                file.unlink()
    there = read_manifest(target, fingerprint=fingerprint)
    if there is not None and "refused" not in there:
        return  # another process was faster, and may be opening it
    shutil.rmtree(target, ignore_errors=True)  # damaged, or refused by an earlier conversion
    try:
        os.replace(partial, target)
    except OSError:
        if not (target / MANIFEST).is_file():  # another process was faster
            raise
