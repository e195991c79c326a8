"""ConvertedModel: a model that was converted for another runtime, on disk and in use.

The folder of one, in `root()`, is named after fingerprint, runtime, its version and the processor::

    manifest.json    format version, fingerprint, sizes of the files, a text with its vector, how
                     the conversion agreed with torch; or why the model was refused
    tokenizer.json   the tokenizer, as transformers makes it
    tokens.npy       token embeddings, float32 (vocabulary, hidden size), mapped when it is used
    model.blob       the rest of the model (model.onnx for ONNX Runtime)
"""

import hashlib
import json
import os
import platform
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from subspace.arrays import Ints, Vectors, from_base64, map_array
from subspace.encoder.backends.runtimes import Graph, installed_version, load_runtime
from subspace.encoder.backends.rust_tokenizer import RustTokenizer
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.pooling import OWN_MEAN
from subspace.encoder.tokens import OwnTokens, cut_batches
from subspace.errors import EncoderError

FORMAT_VERSION = 2
MANIFEST, TOKENIZER, TABLE = "manifest.json", "tokenizer.json", "tokens.npy"
# Smallest cosine to the vector of torch, by precision.
AGREEMENT = {"float32": 0.9999, "bfloat16": 0.999}

# Models with more weights than these run one batch at a time on all cores. Of smaller ones, a batch
# runs on one core, and several at a time: handing over between threads would take longer than it
# saves, most of all where other programs are busy.
_LIGHT = 100_000_000
# Tokens per batch, with padding, of a light model and of others.
_BATCH_TOKENS, _HEAVY_BATCH_TOKENS = 512, 2048
# With fewer tokens a light model uses one core.
_FEW_TOKENS = 256


class ConvertedModel:
    """A converted model. Its files are opened when the first text is encoded.

    Attributes:
        runtime: `openvino` or `onnx`.
        folder: Its files.
        manifest: What `manifest.json` holds.
        required: Whether it must compute, as the backend was chosen by name.
    """

    def __init__(
        self, runtime: str, *, folder: Path, manifest: Mapping[str, Any], required: bool
    ) -> None:
        """Takes what `read` found."""
        self.runtime = runtime
        self.folder = folder
        self.manifest = manifest
        self.required = required
        self._fingerprint = Fingerprint.from_json(manifest["fingerprint"])
        self._lock, self._calls = threading.Lock(), 0
        self._graphs: dict[tuple[int, int], Graph] = {}
        self._checking, self._checked = threading.Lock(), False

    @classmethod
    def read(
        cls, runtime: str, *, fingerprint: Fingerprint, required: bool
    ) -> "ConvertedModel | None":
        """Finds the model that was converted for this runtime, its version and this processor.

        Returns:
            None if there is none, if it is not whole, or if the model was refused.
        """
        folder = folder_of(runtime, fingerprint=fingerprint)
        manifest = read_manifest(folder, fingerprint=fingerprint)
        if manifest is None or "refused" in manifest:
            return None
        return cls(runtime, folder=folder, manifest=manifest, required=required)

    @property
    def fast_in_bulk(self) -> bool:
        """Whether it is faster than torch for many texts on this machine, or must compute."""
        return self.required or (bool(self.manifest["fast_in_bulk"]) and not _has_gpu())

    def load_tokenizer(self) -> RustTokenizer:
        """Loads the tokenizer, without transformers.

        Raises:
            EncoderError: The file cannot be read, or is not the one that was written.
        """
        try:
            return RustTokenizer(self.folder / TOKENIZER, settings=self.manifest["tokenizer"])
        except (OSError, ValueError) as error:
            raise self._fault(f"cannot be used: {error}") from error

    def check(self) -> None:
        """Raises unless the files can be opened, and give a text the vector that torch gave it.

        Raises:
            EncoderError: They cannot, or it is another vector.
        """
        with self._checking:  # threads wait for the first one, which opens the files
            if not self._checked:
                self._compare_sample()
                self._checked = True

    def _compare_sample(self) -> None:
        sample = self.manifest["check"]
        ids = np.array(sample["ids"], dtype=np.int64)
        try:
            found = self._run([ids], [np.array(sample["own"])], graph=self._graph(streams=1))
        except (ImportError, OSError, RuntimeError, ValueError, IndexError) as error:
            lines = str(error).strip().splitlines() or [repr(error)]
            raise self._fault(f"cannot be used: {lines[-1]}") from error
        worst = smallest_cosine(
            found, from_base64(sample["vector"])[None], layers=len(self._fingerprint.layers)
        )
        if not worst >= AGREEMENT[self._fingerprint.dtype]:
            raise self._fault(
                f"gives other vectors than when it was converted (cosine {worst:.6f})"
            )

    def _fault(self, what: str) -> EncoderError:
        return EncoderError(f"the model converted for {self.runtime} in {self.folder} {what}")

    def discard(self) -> None:
        """Removes the folder, so that the model is converted anew."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def encode(self, ids: Sequence[Ints], *, own: OwnTokens) -> Iterator[tuple[Ints, Vectors]]:
        """Yields the positions and vectors (M, dim) of a batch of texts, each text once.

        Args:
            ids: Token ids of each text.
            own: Finds the tokens of a text itself.
        """
        lengths = [len(one) for one in ids]
        threads = available_threads()
        streams = 1 if self._heavy or sum(lengths) < _FEW_TOKENS else threads
        most = _HEAVY_BATCH_TOKENS if self._heavy else _BATCH_TOKENS
        most = max(min(most, -(-sum(lengths) // streams)), 1)
        batches = list(cut_batches(lengths, most=most, padded=True))
        streams = min(streams, len(batches))
        with self._call() as alone:
            graph = self._graph(streams=1 if streams == 1 and alone else threads)

            def run(positions: Ints) -> tuple[Ints, Vectors]:
                batch = [ids[position] for position in positions]
                kept = [own.pooled(one) for one in batch] if self._pools_own else []
                return positions, self._run(batch, kept, graph=graph)

            if streams == 1:
                yield from map(run, batches)
                return
            with ThreadPoolExecutor(streams) as pool:
                yield from pool.map(run, batches)

    @contextmanager
    def _call(self) -> Iterator[bool]:
        """Counts a call as running; tells whether it is the only one, which needs one stream."""
        with self._lock:
            self._calls += 1
            alone = self._calls == 1
        try:
            yield alone
        finally:
            with self._lock:
                self._calls -= 1

    @property
    def _heavy(self) -> bool:
        return bool(self.manifest["weights"] > _LIGHT)

    @property
    def _pools_own(self) -> bool:
        return self._fingerprint.early_pooling == OWN_MEAN

    def _graph(self, *, streams: int) -> Graph:
        """Opens the model for so many calls at a time; all encoders of a process share it.

        What is open stays so, and does for any number of calls if the files are gone meanwhile.
        """
        kind = (1, available_threads()) if self._heavy else (streams, 1)
        file = self.folder / load_runtime(self.runtime).FILE
        with self._lock:
            if kind not in self._graphs:
                try:
                    written, dtype = file.stat().st_mtime_ns, self._fingerprint.dtype
                    self._graphs[kind] = _open_graph(self.runtime, file, written, dtype, *kind)
                except OSError:
                    if not self._graphs:
                        raise
                    return next(iter(self._graphs.values()))
            return self._graphs[kind]

    @cached_property
    def _table(self) -> Vectors:
        table: Vectors = map_array(self.folder / TABLE)
        return table

    def _run(self, batch: Sequence[Ints], own: Sequence[Ints], *, graph: Graph) -> Vectors:
        """Runs texts, padded on the right; `own` are the positions of their own tokens."""
        longest = max(map(len, batch))
        ids = np.zeros((len(batch), longest), dtype=np.int64)
        mask = np.zeros((2, len(batch), longest), dtype=np.float32)
        for row, one in enumerate(batch):
            ids[row, : len(one)] = one
            mask[0, row, : len(one)] = 1
            if self._pools_own:
                mask[1, row, own[row]] = 1
        return graph(np.asarray(self._table[ids]), *mask[: 1 + self._pools_own])


def root() -> Path:
    """Returns the folder of all converted models: `subspace/encoders` in the hub's assets cache."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "subspace" / "encoders"


def folder_of(runtime: str, *, fingerprint: Fingerprint) -> Path:
    """Returns the folder of the model that was converted for an installed runtime."""
    parts = (fingerprint.digest[:16], runtime, installed_version(runtime), _processor())
    return root() / "-".join(str(part) for part in parts)


def read_manifest(folder: Path, *, fingerprint: Fingerprint) -> dict[str, Any] | None:
    """Reads a manifest; None if there is none, it is damaged, or a file has another size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        whole = (
            manifest["format_version"] == FORMAT_VERSION
            and manifest["fingerprint"] == fingerprint.to_json()
            and all((folder / n).stat().st_size == size for n, size in manifest["files"].items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def smallest_cosine(found: Vectors, wanted: Vectors, *, layers: int) -> float:
    """Returns the smallest cosine between vectors of a text (N, dim), of each layer by itself."""
    shape = (len(wanted), layers, -1)
    return float((found.reshape(shape) * wanted.reshape(shape)).sum(axis=-1).min())


def available_threads() -> int:
    """Returns how many threads may compute: OMP_NUM_THREADS, or the cores of this process."""
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if said.isdigit() and int(said):
        return int(said)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=4)
def _open_graph(
    runtime: str,
    file: Path,
    _: int,  # when the file was written
    dtype: str,
    streams: int,
    threads: int,
) -> Graph:
    return load_runtime(runtime).open_graph(file, dtype=dtype, streams=streams, threads=threads)


@lru_cache(maxsize=1)
def _processor() -> str:
    """Returns a short hash of what this processor can do, for which models are compiled."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
            about = stream.read(8192).partition("\n\n")[0].splitlines()
    except OSError:
        about = [platform.processor()]
    named = [line for line in about if line.startswith(("model name", "flags", "Features"))]
    said = "\n".join([platform.machine(), *(named or about)])
    return hashlib.sha256(said.encode()).hexdigest()[:8]


def _has_gpu() -> bool:
    """Tells whether this machine may have a GPU, on which torch would be faster."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return bool(torch.cuda.is_available())
    return any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
