"""Folders of sentence-transformers with modules of this package, for all other models.

The folder holds a copy of `subspace_modules.py`. As everything that is not the library's own, it is
run only for those who say `trust_remote_code=True`. `open_folder` runs this package's code instead.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from subspace.encoder import Fingerprint
from subspace.errors import CheckpointError
from subspace.model.export.selection import Selection

_FILE = Path(__file__).with_name("subspace_modules.py")
_BLOCKS = "1_Blocks"
# The classes and their folders, in the order in which they are called.
_PLACES = {"LayerTransformer": "", "Blocks": _BLOCKS}
_MODULES, _SETTINGS = "modules.json", "config_sentence_transformers.json"
_TRANSFORMER = "sentence_bert_config.json"


def write_own_modules(
    folder: Path,
    selection: Selection,
    *,
    fingerprint: Fingerprint,
    score_scales: Mapping[str, float],
) -> None:
    """Adds the modules to a folder that holds a transformer alone.

    Args:
        folder: As the library saved it.
        selection: The blocks.
        fingerprint: Of the encoder.
        score_scales: Factor of each block beside a weight that is given with a query.
    """
    path = folder / _TRANSFORMER
    settings = {
        "layers": list(fingerprint.layers),
        "pooling": fingerprint.pooling,
        "early_pooling": fingerprint.early_pooling or fingerprint.pooling,
    }
    _write_json(path, json.loads(path.read_text("utf-8")) | settings)
    (folder / _BLOCKS).mkdir()
    _build_blocks(selection, score_scales=score_scales).save(str(folder / _BLOCKS))
    modules = [
        {"idx": idx, "name": str(idx), "path": path, "type": f"{_FILE.stem}.{name}"}
        for idx, (name, path) in enumerate(_PLACES.items())
    ]
    _write_json(folder / _MODULES, modules)
    (folder / _FILE.name).write_bytes(_FILE.read_bytes())


def holds_own_modules(folder: Path | str) -> bool:
    """Tells whether a folder needs this package's modules.

    Raises:
        CheckpointError: It is not a folder of sentence-transformers.
    """
    return any(_own_name(module["type"]) for module in _read_modules(Path(folder)))


def open_folder(folder: Path | str, *, device: str | None = None) -> Any:
    """Opens an exported folder as a `SentenceTransformer`, without running code that lies in it.

    Args:
        folder: A folder that `subspace export --to sentence-transformers` wrote.
        device: Device of torch; None for the best there is.

    Raises:
        CheckpointError: It is not such a folder.
    """
    from sentence_transformers import SentenceTransformer

    from subspace.model.export import subspace_modules

    place = Path(folder)
    if not holds_own_modules(place):
        return SentenceTransformer(str(place), device=device)
    modules = []
    for module in _read_modules(place):
        name = _own_name(module["type"])
        if name not in _PLACES:
            raise CheckpointError(
                f"{place / _MODULES}: no module '{module['type']}' in this version of subspace: "
                "use the one that wrote the folder"
            )
        kind = getattr(subspace_modules, str(name))
        modules.append(kind.load(str(place), subfolder=module["path"], local_files_only=True))
    settings = _read_json(place / _SETTINGS)
    kept = ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")
    return SentenceTransformer(
        modules=modules, device=device, **{n: settings[n] for n in kept if n in settings}
    )


def _build_blocks(selection: Selection, *, score_scales: Mapping[str, float]) -> Any:
    import torch

    from subspace.model.export.subspace_modules import Blocks

    projection, layout = selection.projection, selection.projection.layout
    blocks = Blocks(
        input_dim=projection.input_dim,
        widths=layout.to_widths(),
        queries=projection.query is not None,
        scale=selection.scale,
        score_scales={name: score_scales[name] for name in layout},
        nearness={
            name: {"rows": len(near.weight), **near.numbers()}
            for name, near in selection.nearness.items()
        },
    )
    none = np.zeros(layout.dim, dtype=np.float32)
    tensors = {
        "mean": projection.mean,
        "document_weight": projection.weight,
        "document_offset": none if projection.offset is None else projection.offset,
    }
    if projection.query is not None:
        tensors["query_weight"] = projection.query.weight
        tensors["query_offset"] = projection.query.offset
    for place, near in enumerate(selection.nearness.values()):
        for part in ("weight", "bias", "mean"):
            tensors[f"nearness_{place}_{part}"] = getattr(near, part)
    blocks.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
    return blocks


def _own_name(kind: str) -> str | None:
    """Returns the class that a module's type names in `subspace_modules.py`, if it does."""
    module, _, name = kind.rpartition(".")
    return name if module.rpartition(".")[2] == _FILE.stem else None


def _read_modules(folder: Path) -> list[dict[str, str]]:
    """Returns the entries of `modules.json`, each with a `type` and a `path`."""
    found = _read_json(folder / _MODULES)
    entries: list[Any] = found if isinstance(found, list) else [None]
    for one in entries:
        if not isinstance(one, dict) or not all(
            isinstance(one.get(key), str) for key in ("type", "path")
        ):
            raise CheckpointError(f"{folder / _MODULES} is damaged: it must list types and paths")
    return entries


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.parent} is no folder of sentence-transformers: {path.name}: {error}"
        ) from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
