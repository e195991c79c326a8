"""`evaluate`: measures a model on labelled texts, and reports the results."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from subspace.data.records import Record, by_source, check_records
from subspace.data.retrieval_sets import RetrievalSet
from subspace.errors import CheckpointError, ConfigError, check_type
from subspace.evaluation.base_retrieval import BaseRetrieval, measure_base_retrieval
from subspace.evaluation.baselines import principal_components, random_rotation
from subspace.evaluation.cross_corpus import leave_one_out
from subspace.evaluation.report import Report, measure_report
from subspace.evaluation.separation import EmbeddedSource
from subspace.evaluation.steering_run import measure_steering
from subspace.evaluation.unseen_queries import keep_unseen
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData
from subspace.fitting.recipe import Recipe
from subspace.fitting.weak.weak_supervision import WeakSupervision
from subspace.model.checkpoint import manifest
from subspace.model.model import Model
from subspace.model.projection import Projection


def evaluate(
    model: Model,
    records: Iterable[Record],
    *,
    retrieval_sets: Mapping[str, RetrievalSet] | None = None,
    cross_corpus: bool = True,
    kin: Iterable[Iterable[str]] = (),
    seeds: int = 5,
    store: Path | str = DEFAULT_STORE,
    progress: bool = False,
) -> Report:
    """Measures the steering, separation and base retrieval of a model.

    On sources that it was not fitted on, the model is measured as it is. On a source that it was
    fitted on, steering is measured with a projection that is solved again without the source, and
    separation with both that one (cross-corpus) and the model itself (in-corpus).

    Args:
        model: The model to measure.
        records: Labelled texts; texts without labels are ignored.
        retrieval_sets: Queries with judged documents, by name.
        cross_corpus: Whether to solve the projection again without each source.
        kin: Groups of similar sources that are left out together.
        seeds: Number of training samples and initialisations of each probe.
        store: Folder of stored embeddings; those that it holds are not computed again.
        progress: Whether to show progress bars.

    Raises:
        ConfigError: An argument is of another type, there are no labelled texts or no training
            texts, or `seeds` is below 1.
        EncoderError: The encoder cannot be loaded.
        StoreError: The store cannot be used.
    """
    check_type(model, Model, name="model", hint="load it with subspace.load")
    if seeds < 1:
        raise ConfigError(f"seeds must be 1 or more, got {seeds}")
    sources = by_source(record for record in check_records(records) if record.factors)
    if not sources:
        raise ConfigError("no record has `factors`: there is nothing to measure")
    recipe, warnings = _recipe(model)
    data = FittingData.encode(
        sources,
        encoder=model.encoder,
        weak=recipe.weak if recipe else WeakSupervision(),
        origin_weights=recipe.origin_weights if recipe else None,
        store=store,
        progress=progress,
    )
    seen, odd = match_sources(model, data)
    warnings += odd
    searched = []
    for name, found in (retrieval_sets or {}).items():
        unseen, warning = keep_unseen(found, model, name=name)
        warnings += [warning] if warning else []
        searched.append(_search(model, name, unseen, data=data, progress=progress))
    fitted, groups = data.only(*seen), [list(group) for group in kin]
    others: dict[str, Projection] = {}
    if recipe and cross_corpus and len(fitted.sources) > 1:
        others = leave_one_out(
            fitted,
            blocks=recipe.blocks,
            layers=model.fingerprint.layers,
            kin=groups,
            progress=progress,
        )
    steering = []
    try:
        steering = measure_steering(
            model,
            data,
            seen=seen,
            kin=groups,
            solve_again=bool(recipe) and cross_corpus,
            left_out=frozenset(model.adapted.get("texts", ())),
            progress=progress,
        )
    except ConfigError as error:
        warnings.append(f"steering was not measured: {error}")
    return measure_report(
        model.projection,
        sources={
            name: EmbeddedSource(
                records=source.records,
                labels=source.labels,
                x=data.encoder.store.read(source.rows),
            )
            for name, source in data.sources.items()
        },
        raw=model.fingerprint.last_layer,
        seen=seen,
        cross_corpus=others,
        baselines=_baselines(model, fitted),
        base=searched,
        steering=steering,
        about={
            "checkpoint": manifest(model),
            "projection": model.projection.digest,
            "data": {name: source.sha256 for name, source in data.sources.items()},
        },
        warnings=warnings,
        seeds=seeds,
        progress=progress,
    )


def match_sources(model: Model, data: FittingData) -> tuple[list[str], list[str]]:
    """Returns the names of the sources that a model was fitted on, and warnings about them."""
    seen, warnings = [], []
    for name, source in data.sources.items():
        if source.sha256 in model.data.values():
            seen.append(name)
        elif name in model.data:
            seen.append(name)
            warnings.append(
                f"source '{name}' is not what the model was fitted on under that name: texts it "
                "was fitted on may be among the test texts"
            )
    missing = len(model.data) - len(seen)
    if seen and missing > 0:
        warnings.append(
            f"{missing} of the {len(model.data)} sources that the model was fitted on are not "
            "given: cross-corpus projections are solved from the others alone"
        )
    return seen, warnings


def _recipe(model: Model) -> tuple[Recipe | None, list[str]]:
    try:
        recipe = Recipe.from_json(model.recipe)
    except CheckpointError as error:
        return None, [f"{error}: there are no cross-corpus figures"]
    warnings = []
    if recipe.solver == "sgd":
        warnings.append(
            "cross-corpus figures are of the closed form with the model's recipe: training again "
            "without each source would take hours"
        )
    if recipe.queries:
        warnings.append(
            "cross-corpus figures are of blocks before the search was adapted to queries "
            f"({', '.join(recipe.queries)})"
        )
    return recipe, warnings


def _baselines(model: Model, fitted: FittingData) -> dict[str, Projection]:
    raw, layout = model.fingerprint.last_layer, model.layout
    models = {
        "random rotation": random_rotation(layout=layout, raw=raw, dim=model.projection.input_dim)
    }
    if fitted.moments:
        models["PCA"] = principal_components(fitted.moments, layout=layout, raw=raw)
    return models


def _search(
    model: Model, name: str, found: RetrievalSet, *, data: FittingData, progress: bool
) -> BaseRetrieval:
    texts = [document.text for document in found.documents]
    queries = list(found.queries.values())
    return measure_base_retrieval(
        model,
        name=name,
        data=found,
        documents=data.encoder.encode(texts, progress=progress),
        queries=data.encoder.encode(queries, kind="query", progress=progress),
    )
