"""Types of the arrays in this package, and vectors as text; docstrings give their shapes."""

import base64
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Floating-point numbers of any precision.
AnyFloats = npt.NDArray[np.floating]


def to_base64(vector: Vectors) -> str:
    """Writes a vector as little-endian float32 in base64, for a place in a JSON file."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def from_base64(text: str) -> Vectors:
    """Reads what `to_base64` wrote.

    Raises:
        ValueError: The text is no base64, ends within a number, or one is not finite.
        TypeError: It is no text.
    """
    vector = np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a vector is not finite")
    return vector


def map_array(path: Path) -> npt.NDArray[Any]:
    """Maps a .npy file into memory, read-only; unlike `numpy.load`, refuses every other format.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no whole .npy file. What numpy itself raises for a damaged header is of
            many kinds.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ArithmeticError, EOFError, LookupError, SyntaxError, TokenError, TypeError) as error:
        raise ValueError(f"{path.name} is no .npy file, or a damaged one") from error
