"""The model card of a checkpoint, made from measurements and from its user's statements.

Nothing is guessed: an unknown licence is "not stated", and missing measurements are named as such.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Template

from subspace.errors import CheckpointError
from subspace.model.licences import NOT_STATED, Licences, read_licences
from subspace.model.markdown import table
from subspace.model.model import Model
from subspace.model.separation_report import Report, read_report

CARD = "README.md"
_MARK = "<!-- written by subspace -->"
_TEMPLATE = Path(__file__).with_suffix(".md")
_MODELS = ("cross-corpus", "in-corpus")
_PROBES = {"linear": "linear", "neighbours": "nearest neighbours", "network": "small network"}
# The card names leakage of _LEAKS or more, and retention below _KEEPS, as weaknesses.
_LEAKS = 0.3
_KEEPS = 0.8

Manifest = Mapping[str, Any]
Matrix = Mapping[str, Any]


def make_card(
    model: Model,
    *,
    name: str = "checkpoint",
    report: Path | str | None = None,
    cut: Mapping[str, int] | None = None,
    licences: Path | str | None = None,
    use: str | None = None,
    **metadata: Any,
) -> ModelCard:
    """Makes the card.

    Args:
        model: The model to describe.
        name: Title of the card, also used as the path or hub id in its examples.
        report: Folder that `subspace probe --output` or `subspace bench steer --output` wrote; None
            if nothing was measured.
        cut: Widths of the remaining blocks, if blocks were cut or weighted; the report's figures,
            which describe the whole model, are then left out.
        licences: YAML file of licences (see `read_licences`).
        use: How to use the model, in Markdown; None for the commands of this package.
        metadata: Fields of `huggingface_hub.ModelCardData`; they replace those found here.

    Raises:
        ConfigError: The report is missing or of another checkpoint, or the licences are unusable.
    """
    from subspace.model.checkpoint import manifest as manifest_of

    manifest: Manifest = manifest_of(model)
    found = None
    if report is not None:
        found = read_report(report, model=model)
    limits = list(_limits(manifest, report=found, cut=cut is not None))
    if cut is not None:
        manifest, found = {**manifest, "blocks": dict(cut)}, None
    stated = Licences()
    if licences is not None:
        stated = read_licences(licences, sources=manifest["data"])
    text = Template(_TEMPLATE.read_text("utf-8"), trim_blocks=True, lstrip_blocks=True).render(
        card_data=_metadata(manifest, name=name, report=found, licences=stated, **metadata),
        mark=_MARK,
        name=name,
        use=use or _use(manifest, name=name),
        blocks=_table(("block", "dimensions"), manifest["blocks"].items()),
        encoder=_encoder(manifest),
        queries=model.projection.query is not None,
        data=_data(manifest, licences=stated),
        licence=f"Licence of the tensors: {stated.checkpoint or NOT_STATED}.",
        report=found,
        steering=_steering(found) if found else "",
        summary=_summary(found) if found else "",
        matrices=[(model.capitalize(), _show(one)) for model, one in _linear(found).items()],
        base=_base(found) if found else "",
        feedback=_feedback(manifest),
        limits=limits,
    )
    return ModelCard(text)


def write_card(card: ModelCard, folder: Path) -> bool:
    """Writes `README.md`, but not over one that was written by hand.

    Returns:
        Whether it was written.

    Raises:
        CheckpointError: The card cannot be written.
    """
    path = folder / CARD
    try:
        if is_by_hand(path):
            return False
        path.write_text(str(card), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"cannot write the model card {path}: {error}") from error
    return True


def is_by_hand(path: Path) -> bool:
    """Tells whether `path` is a card that this package did not write."""
    return path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace")


def _metadata(
    manifest: Manifest, *, name: str, report: Report | None, licences: Licences, **more: Any
) -> ModelCardData:
    """Makes the metadata at the top of the card, which the hub reads."""
    fingerprint = manifest["encoder"]["fingerprint"]
    on_hub = not fingerprint["revision"].startswith("sha256:")
    results = list(_eval_results(report)) if report else []
    fields = {
        "library_name": "subspace",
        "pipeline_tag": "feature-extraction",
        "tags": ["subspace", "factored-embeddings"],
        "license": licences.checkpoint,
        "base_model": fingerprint["model"] if on_hub else None,
        "model_name": name if results else None,
        "eval_results": results or None,
    }
    return ModelCardData(**{**fields, **more})


def _eval_results(report: Report) -> Iterator[EvalResult]:
    for model, matrix in _linear(report).items():
        for metric, value in _means(matrix).items():
            if value is not None:
                yield EvalResult(
                    task_type="feature-extraction",
                    dataset_type=model,
                    dataset_name=f"{model} test texts",
                    metric_type=metric,
                    metric_name=f"{metric}, linear probe",
                    metric_value=round(value, 4),
                )
    for one in report["base_retrieval"]:
        yield EvalResult(
            task_type="text-retrieval",
            dataset_type=one["name"],
            dataset_name=one["name"],
            metric_type="ndcg_at_10",
            metric_value=round(one["ndcg"], 4),
        )


def _use(manifest: Manifest, *, name: str) -> str:
    first = next(iter(manifest["blocks"]))
    return f"""\
    subspace index --checkpoint {name} --input F.jsonl --output runs/index
    subspace search --checkpoint {name} --index runs/index --query TEXT --weights {first}=1

```python
import subspace

model = subspace.load("{name}")
blocks = model.encode_document(["a text"])
```
""" + (
        f"\n`{name}@COMMIT` pins what is loaded, and needs no network once it was downloaded."
        if "/" in name
        else ""
    )


def _encoder(manifest: Manifest) -> str:
    fingerprint = manifest["encoder"]["fingerprint"]
    fields = ["model", "revision", "pooling", "layers", "max_length", "dtype"]
    if "early_pooling" in fingerprint:
        fields.insert(3, "early_pooling")
    prompts = ("query_prompt", "document_prompt")
    rows = [(key, fingerprint[key]) for key in fields]
    rows += [(key, f"`{fingerprint[key]!r}`") for key in prompts if fingerprint[key]]
    return _table(("setting", "value"), rows)


def _data(manifest: Manifest, *, licences: Licences) -> str:
    if not manifest["data"]:
        return "What it was fitted on is not stated."
    rows = [
        (source, *licences.sources.get(source, (NOT_STATED, "")), f"`{sha256[:12]}`")
        for source, sha256 in manifest["data"].items()
    ]
    return _table(("fitted on", "licence", "attribution", "sha256 of its records"), rows)


def _linear(report: Report | None) -> dict[str, Matrix]:
    """Returns the linear probe's matrices by model, the most meaningful one first."""
    found = {model: _matrix(report, model=model, probe="linear") for model in _MODELS}
    return {model: matrix for model, matrix in found.items() if matrix is not None}


def _matrix(report: Report | None, *, model: str, probe: str) -> Matrix | None:
    wanted = {"model": model, "probe": probe, "controlled": True}
    for matrix in report["matrices"] if report else ():
        if wanted.items() <= matrix.items():
            return dict(matrix)
    return None


def _means(matrix: Matrix) -> dict[str, float | None]:
    """Returns selectivity, mean retention, and mean leakage into blocks that have a factor."""
    own, others = matrix["retention"], matrix["leakage"]
    leaks = [others[block] for block in own if block in others]
    return {
        "selectivity": matrix["selectivity"],
        "retention": sum(own.values()) / len(own) if own else None,
        "leakage": sum(leaks) / len(leaks) if leaks else None,
    }


def _steering(report: Report) -> str:
    """Makes the table of gains where 90 % of the relevance is kept, as means over sources."""
    rows = []
    for factor in dict.fromkeys(row["factor"] for row in report["steering"]):
        own = [row for row in report["steering"] if row["factor"] == factor]
        for contender in dict.fromkeys(row["contender"] for row in own):
            of_one = [row for row in own if row["contender"] == contender]
            mean = sum(row["gain"]["0.9"] for row in of_one) / len(of_one)
            rows.append((factor, own[0]["kind"], contender, len(of_one), f"{mean:.3f}"))
    header = ("factor", "asked for", "contender", "sources", "hits move by")
    return _table(header, rows) if rows else ""


def _summary(report: Report) -> str:
    rows = []
    for model in _MODELS:
        for probe, said in _PROBES.items():
            matrix = _matrix(report, model=model, probe=probe)
            if matrix is not None:
                mean = _means(matrix)
                low, high = matrix["selectivity_interval"] or (None, None)
                between = f"{_number(low)} to {_number(high)}"
                numbers = (mean["retention"], mean["leakage"])
                rows.append((model, said, _number(mean["selectivity"]), between, *numbers))
    header = ("blocks", "probe", "selectivity", "95 % interval", "retention", "leakage")
    return _table(header, rows) if rows else ""


def _show(matrix: Matrix) -> str:
    rows = [
        (
            block,
            *(
                f"**{_number(value)}**" if block == factor else value
                for factor, value in zip(matrix["factors"], values, strict=True)
            ),
        )
        for block, values in zip(matrix["blocks"], matrix["values"], strict=True)
    ]
    return _table(("block", *matrix["factors"]), rows)


def _base(report: Report) -> str:
    rows = [
        (one["name"], one["queries"], one["ndcg"], one["raw_ndcg"], one["relative"])
        for one in report["base_retrieval"]
    ]
    return _table(("set", "queries", "blocks", "raw", "ratio"), rows) if rows else ""


def _feedback(manifest: Manifest) -> str:
    """Lists what each direction was learned from that ratings of hits gave."""
    lines = []
    for factor, told in manifest.get("adapted", {}).get("factors", {}).items():
        if "feedback" not in told:
            continue
        follows = ", ".join(f"{name} {value:+.2f}" for name, value in _strongest(told))
        lines += [
            f"`{factor}` is what hits had that were rated well, trusted {told['trust']:.0%}"
            + (f"; it goes along with {follows} (correlations)." if follows else "."),
            "",
            _table(("search", "hits and how well they served"), _rated(told["feedback"])),
            "",
        ]
    return "\n".join(lines)


def _strongest(told: Mapping[str, Any]) -> list[tuple[str, float]]:
    return sorted(told.get("follows", {}).items(), key=lambda one: -abs(one[1]))


def _rated(feedback: Mapping[str, Mapping[str, float]]) -> Iterator[tuple[str, str]]:
    for search, hits in feedback.items():
        yield search, ", ".join(f"{item} {success:g}" for item, success in hits.items())


def _limits(manifest: Manifest, *, report: Report | None, cut: bool) -> Iterator[str]:
    """Yields sentences on limits of the model and of its measurements."""
    tokens = manifest["encoder"]["fingerprint"]["max_length"]
    yield f"Texts are cut after {tokens} tokens."
    for name, queries in manifest["recipe"].get("queries", {}).items():
        yield (
            f"Its search was adapted to {len(queries)} queries of {name}: on other queries and "
            "documents it may find less than the raw embedding."
        )
    for factor, told in manifest.get("adapted", {}).get("factors", {}).items():
        given = told["labels"] + told["comparisons"]
        if "feedback" in told:
            continue  # it is one reader's own, and has a section of its own
        yield (
            f"'{factor}' was adapted to {given} labels of texts of one kind: on other texts it may "
            "do worse than before. Figures of steering are of the model before."
        )
    model, revision = manifest["encoder"]["model"], manifest["encoder"]["fingerprint"]["revision"]
    if revision.startswith("sha256:") and Path(model).name != model:
        yield "Its encoder was read from a folder: `--encoder` must name one with the same files."
    if report is not None and cut:
        yield (
            "Its checkpoint was measured before blocks were cut or weighted: those figures are "
            "not of what is left, and are left out."
        )
    if report is None or cut:
        yield "Nothing was measured: no claim is made about what any block holds."
    else:
        yield from _limits_of_measurements(report)


def _limits_of_measurements(report: Report) -> Iterator[str]:
    measured = ", ".join(report["about"].get("data", {})) or "the sources it was fitted on"
    yield (
        f"It was measured on {measured}: other languages, genres and subjects may be separated "
        "less well."
    )
    matrices = _linear(report)
    inside = dict.fromkeys(row["source"] for row in report["steering"] if row["in_corpus"])
    if inside:
        yield f"Steering of {', '.join(inside)} was measured with blocks that were fitted on it."
    if matrices and "cross-corpus" not in matrices:
        yield (
            "It was not read on corpora that it was not fitted on: how its blocks do on other "
            "texts is not known, and is worse as a rule."
        )
    for model, matrix in list(matrices.items())[:1]:
        yield from _weaknesses(matrix, model=model)
    if not report["base_retrieval"]:
        yield "Plain search with it was not compared with the raw embedding's."
    for warning in report["warnings"]:
        yield f"{warning[:1].upper()}{warning[1:]}."
    for reason in report["left_out"]:
        yield f"Not measured: {reason}."


def _weaknesses(matrix: Matrix, *, model: str) -> Iterator[str]:
    for block, kept in matrix["retention"].items():
        if kept < _KEEPS:
            yield f"The {block} block keeps {_number(kept)} of its own factor ({model})."
    for block, values in zip(matrix["blocks"], matrix["values"], strict=True):
        told = [
            f"{_number(value)} of {factor}"
            for factor, value in zip(matrix["factors"], values, strict=True)
            if block in matrix["retention"] and factor != block and (value or 0) >= _LEAKS
        ]
        if told:
            yield f"The {block} block also tells {', '.join(told)} ({model})."


def _table(header: Sequence[str], rows: Any) -> str:
    """Formats a Markdown table; numbers get two decimals."""
    return "\n".join(table(header, [[*map(_cell, row)] for row in rows]))


def _cell(value: Any) -> Any:
    return _number(value) if value is None or isinstance(value, float) else value


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.2f}"
