"""The steering bench: measurements, curves and readable hits over many sources."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from subspace.blocks import unit
from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.evaluation.evaluate import match_sources
from subspace.evaluation.steering_run import SteeringRow, measure_steering
from subspace.evaluation.steering_tables import write_steering
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData
from subspace.fitting.recipe import Recipe
from subspace.model.checkpoint import manifest
from subspace.model.document_sample import DocumentSample
from subspace.model.model import Model

logger = logging.getLogger(__name__)
# Number of queries shown per factor, and of hits per query.
_SHOWN, _HITS = 3, 3


def bench_steer(
    model: Model,
    sources: Mapping[str, Sequence[Record]],
    *,
    output: Path,
    kin: Iterable[Iterable[str]] = (),
    solve_again: bool = True,
    queries: int = 150,
    store: Path | str = DEFAULT_STORE,
    progress: bool = False,
) -> list[SteeringRow]:
    """Measures steering and writes steering.json, .md and .png.

    Args:
        model: The model; measured as it is on sources that it was not fitted on. Texts that it was
            adapted to are left out.
        sources: Labelled texts by source.
        output: Folder of the results.
        kin: Groups of similar sources, which are left out together.
        solve_again: Whether to measure a source that the model was fitted on with the recipe solved
            again without it.
        queries: Number of queries per source, 1 or more.
        store: Folder of computed embeddings.
        progress: Whether to show progress bars.

    Raises:
        ConfigError: `queries` is below 1, no source has a factor of a block, or the results cannot
            be written.
        CheckpointError: The model does not say how it was fitted.
        EncoderError: The encoder cannot be loaded.
    """
    if queries < 1:
        raise ConfigError(f"queries must be 1 or more, got {queries}")
    recipe = Recipe.from_json(model.recipe)
    labelled = {name: tuple(records) for name, records in sources.items()}
    data = FittingData.encode(
        labelled, encoder=model.encoder, weak=recipe.weak, store=store, progress=progress
    )
    seen, warnings = match_sources(model, data)
    if (recipe.queries or model.adapted) and solve_again and seen:
        warnings.append("sources that the model was fitted on are measured before it was adapted")
    for warning in warnings:
        logger.warning(warning)
    rows = measure_steering(
        model,
        data,
        seen=seen,
        kin=[list(group) for group in kin],
        solve_again=solve_again,
        queries=queries,
        left_out=frozenset(model.adapted.get("texts", ())),
        progress=progress,
    )
    write_steering(
        rows,
        folder=output,
        examples=show_hits(model, data),
        about={
            "checkpoint": manifest(model),
            "projection": model.projection.digest,
            "data": {name: source.sha256 for name, source in data.sources.items()},
            "solved again": solve_again,
        },
    )
    return rows


def show_hits(model: Model, data: FittingData) -> str:
    """Writes Markdown with hits of a few queries, plain and moved, from the model's own blocks."""
    said = "With the blocks of the checkpoint itself, centred on these texts."
    lines = ["## Hits, plain and moved", "", said]
    numbers = [factor for factor, head in model.heads.items() if head.classes is None]
    for factor in numbers:
        source = next((s for s in data.sources.values() if factor in s.labels.columns), None)
        if source is None:
            continue
        taken = np.arange(len(source.rows))[:2000]
        x = data.encoder.store.read(source.rows[taken])
        raw = unit(x[:, model.fingerprint.last_layer])
        texts = [source.records[position].text for position in taken]
        sample = DocumentSample(texts, model.centred_on(x).project(x))
        toward = sample.blocks.array @ sample.length_trend.taken_out_of(model.direction(factor))
        toward = (toward - toward.mean()) / (toward.std() or 1.0)
        drawn = np.random.default_rng(0).permutation(len(taken))[:_SHOWN]
        for query in drawn:
            rel = raw @ raw[query]
            rel = (rel - rel.mean()) / rel.std()
            groups = source.labels.groups[taken]
            rel[(groups == groups[query]) & (groups >= 0)] = -np.inf
            rel[query] = -np.inf
            lines += ["", f"**{_cut(source.records[query].text)}**", ""]
            for said, sign in (("plain", 0.0), (f"less {factor}", -0.5), (f"more {factor}", 0.5)):
                hits = np.argsort(-(rel + sign * toward))[:_HITS]
                lines += [f"- {said}: " + " / ".join(_cut(source.records[h].text) for h in hits)]
    return "\n".join(lines) + "\n"


def _cut(text: str, *, width: int = 120) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
