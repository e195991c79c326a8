"""Chooses the texts of a file that are worth a person's labels; see `pick`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subspace.data.records import Record
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.files import Line, write_lines
from subspace.labelling.label_texts import human_labels
from subspace.labelling.pick import pick
from subspace.labelling.read_texts import read_texts
from subspace.model import Model
from subspace.outputs import refuse_same_file

# Shorter texts say too little to be judged.
MIN_WORDS = 3
_TOPIC = "topic"
_CHUNK = 1000


@dataclass(frozen=True)
class PickedTexts:
    """The texts that were chosen.

    Attributes:
        ids: Their ids; the first few cover the factor, too.
        count: How many were to be chosen. If it is more, the others of the texts are
            near-duplicates of these.
        spread: Name of the model's direction that they are spread over, or None if it has none for
            the factors.
    """

    ids: tuple[str, ...]
    count: int
    spread: str | None


def pick_texts(
    source: Path | str,
    *,
    count: int,
    model: Model,
    encoder: CachedEncoder,
    factors: Sequence[str] = (),
    seed: int = 0,
    progress: bool = False,
) -> PickedTexts:
    """Chooses texts of a JSONL file that cover a factor and the topics.

    They are spread over the model's direction of the first factor that it has one for, and over its
    topic block (the raw embedding, if it has none). Texts of fewer than `MIN_WORDS` words are left
    out, and those that people have labelled all of the factors of.

    Args:
        source: JSONL with `id` and `text`; at most one text of a `group` is chosen.
        count: How many texts to choose.
        model: The model.
        encoder: Its encoder with its store.
        factors: The factors that are to be labelled.
        seed: Of the draws; the same seed chooses the same texts.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: There are fewer texts than are to be chosen.
        RecordError: With every wrong line of the source.
    """
    held = read_texts(source)
    texts = [one for one in held if _is_worth(one[1], factors=factors)]
    if count > len(texts):
        raise ConfigError(
            f"--pick: cannot pick {count} texts of {source}: of its {len(held)} texts, "
            f"{len(texts)} have {MIN_WORDS} words or more and no label by a person yet; "
            "pick fewer, or give more"
        )
    spread = next((name for name in factors if name in model.directions), None)
    scores, topics, raw = [], [], []
    rows = encoder.rows([record.text for _, record in texts], progress=progress)
    last_layer = encoder.encoder.fingerprint.last_layer
    for start in range(0, len(rows), _CHUNK):
        vectors = encoder.store.read(rows[start : start + _CHUNK])
        blocks = model.project(vectors)
        if spread is not None:
            scores.append(blocks.array @ model.direction(spread))
        raw.append(vectors[:, last_layer].astype(np.float32))
        topics.append(blocks[_TOPIC] if _TOPIC in blocks else raw[-1])
    places = pick(
        np.concatenate(scores).astype(np.float64) if scores else None,
        np.concatenate(topics) if topics else np.zeros((0, 1), np.float32),
        np.concatenate(raw) if raw else np.zeros((0, 1), np.float32),
        count=count,
        groups=[_group_of(line) for line, _ in texts],
        seed=seed,
    )
    ids = tuple(texts[place][1].id for place in places.tolist())
    return PickedTexts(ids=ids, count=count, spread=spread)


def pick_file(
    source: Path | str,
    output: Path | str,
    *,
    count: int,
    model: Model,
    encoder: CachedEncoder,
    factors: Sequence[str] = (),
    seed: int = 0,
    progress: bool = False,
) -> PickedTexts:
    """Writes the lines of chosen texts as they are, in the order of choice; see `pick_texts`.

    Raises:
        ConfigError: There are fewer texts than are to be chosen, or the output exists or cannot be
            written.
        RecordError: With every wrong line of the source.
    """
    refuse_same_file(("--input", source), ("--output", output))
    if Path(output).exists():
        raise ConfigError(f"--output: {output} exists, and may hold labels; give another file")
    picked = pick_texts(
        source,
        count=count,
        model=model,
        encoder=encoder,
        factors=factors,
        seed=seed,
        progress=progress,
    )
    lines = {record.id: line.value for line, record in read_texts(source)}
    write_lines(Path(output), [lines[one] for one in picked.ids])
    return picked


def _is_worth(record: Record, *, factors: Sequence[str]) -> bool:
    labelled = bool(factors) and set(factors) <= set(human_labels(record))
    return len(record.text.split()) >= MIN_WORDS and not labelled


def _group_of(line: Line) -> str | None:
    group = line.value.get("group")
    return None if group is None else str(group)
