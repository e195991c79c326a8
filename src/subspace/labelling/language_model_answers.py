"""AnswerFile: keeps the answers of a language model on disk."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Self, TypeGuard

from filelock import FileLock, Timeout

from subspace.errors import ConfigError, RecordError
from subspace.files import Problems, read_lines
from subspace.labelling.annotator import Factors

_START = b'{"key": "t'


def answer_key(text: str, *, model: str, instructions: str, turn: int = 1) -> str:
    """Returns the key of an answer: a hash of everything that the answer depends on.

    Args:
        text: The text to label.
        model: Name of the model.
        instructions: The system message, which holds the rubric.
        turn: 1, or 2 for the second answer to the same question.
    """
    question = json.dumps([model, instructions, text, turn]).encode()
    return "t" + hashlib.sha256(question).hexdigest()[:32]


class AnswerFile:
    """Answers of a language model, as labels by key, in a JSONL file that is only appended to."""

    def __init__(self, stream: FileIO, answers: dict[str, Factors]) -> None:
        """Keeps an open file and the answers in it; call `open` instead."""
        self._stream = stream
        self._answers = answers
        self._lock = Lock()

    @classmethod
    @contextmanager
    def open(cls, path: Path | str) -> Iterator[Self]:
        """Reads the file and locks it, so that two runs do not pay for the same answers.

        Raises:
            ConfigError: It cannot be written, or another run has locked it.
            RecordError: With every line that is not an answer.
        """
        path = Path(path)
        with ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(f"{path}.lock", timeout=0))
                stream = stack.enter_context(path.open("a+b", buffering=0))
                _cut_torn_line(stream, path=path)
            except Timeout:
                raise ConfigError(f"--answers: another run is using {path}; wait for it") from None
            except OSError as error:
                raise ConfigError(f"--answers: cannot write {path}: {error}") from error
            yield cls(stream, _read(path))

    def get(self, key: str) -> Factors:
        """Returns the labels of a key; empty if there are none."""
        return self._answers.get(key, {})

    def add(self, labels: Mapping[str, Factors]) -> None:
        """Adds labels by key and writes them to the disk; labels that are there already stay.

        Raises:
            ConfigError: They cannot be written.
        """
        lines = [json.dumps({"key": key, "factors": factors}) for key, factors in labels.items()]
        with self._lock:
            for key, factors in labels.items():
                self._answers[key] = {**factors, **self.get(key)}
            try:
                _append(self._stream, "".join(f"{line}\n" for line in lines).encode())
            except OSError as error:
                raise ConfigError(f"--answers: cannot write: {error}") from error


def _append(stream: FileIO, data: bytes) -> None:
    """Writes all of `data` to the disk, or nothing."""
    end = stream.seek(0, os.SEEK_END)
    try:
        while data:
            data = data[stream.write(data) :]
        os.fsync(stream.fileno())
    except OSError:  # the disk is full
        stream.truncate(end)
        raise


def _cut_torn_line(stream: FileIO, *, path: Path) -> None:
    """Drops a last line that a crash left half written.

    Raises:
        RecordError: The last line is not the beginning of an answer.
    """
    stream.seek(0)
    whole, newline, torn = stream.read().rpartition(b"\n")
    if not torn.startswith(_START[: len(torn)]):
        raise RecordError([f"{path}: the last line is not an answer of a language model"])
    stream.truncate(len(whole) + len(newline))


def _read(path: Path) -> dict[str, Factors]:
    problems = Problems()
    answers: dict[str, Factors] = {}
    for line in read_lines(path, problems=problems):
        key, factors = line.value.get("key"), line.value.get("factors")
        if not isinstance(key, str) or not _are_labels(factors):
            problems.add(
                line.where, "is not an answer of a language model: it needs key and factors"
            )
            continue
        answers[key] = {**factors, **answers.get(key, {})}
    problems.raise_if_any()
    return answers


def _are_labels(factors: object) -> TypeGuard[Factors]:
    return isinstance(factors, dict) and all(isinstance(v, str | float) for v in factors.values())
