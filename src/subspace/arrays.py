"""Types of the arrays in this package; docstrings give their shapes."""

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# Floating-point numbers of any precision.
AnyFloats = npt.NDArray[np.floating]
