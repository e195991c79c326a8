"""Reference models: checkpoints that come with the package."""

from importlib.resources import files
from pathlib import Path


def find_reference(name: str) -> Path | None:
    """Finds the folder of a reference model; None if no reference model has that name.

    An installed wheel holds them inside the package, a source checkout in its `checkpoints/`.
    """
    if not name.isidentifier() and not name.replace("-", "_").isidentifier():
        return None  # a path or a hub id
    package = Path(str(files("subspace")))
    for folder in (package / "checkpoints" / name, package.parents[1] / "checkpoints" / name):
        if (folder / "config.json").is_file():
            return folder
    return None
