"""Labels the texts of a JSONL file; all other fields of its lines are kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.files import Line, write_lines, write_whole
from subspace.labelling.annotator import Annotator, Factors
from subspace.labelling.annotator_agreement import agreement_table
from subspace.labelling.label_texts import LabelledTexts, check_origins, merge_labels
from subspace.labelling.lost_labels import refuse_lost_labels
from subspace.labelling.open_annotators import FEATURES, AnnotatorSettings, open_annotators
from subspace.labelling.read_texts import read_texts
from subspace.labelling.resumable import annotate
from subspace.outputs import is_stream, refuse_same_file

DEFAULT_FACTORS = ("complexity", "specificity", "style")
_ADVICE = (
    "give another --output, take this file as --input to keep them, or --overwrite to replace them"
)


def label_file(
    source: Path | str,
    output: Path | str,
    *,
    by: Sequence[str | Annotator] = (FEATURES,),
    factors: Sequence[str] = DEFAULT_FACTORS,
    settings: AnnotatorSettings | None = None,
    overwrite: bool = False,
    report: Path | str | None = None,
    progress: bool = False,
) -> LabelledTexts:
    """Labels the texts of a JSONL file; see `label_texts`.

    A line without any label is left out of the output. An interrupted call leaves its labels in a
    hidden file beside the output, and the same call continues from there. An output that is there
    and holds labels by people which the source lacks is refused, unless `overwrite` is set.

    Args:
        source: File to read. Lines hold `id`, `text`, and perhaps `factors`, `origins` and more.
        output: File to write, gzipped if its name ends in `.gz`.
        by: The annotators, the most trusted one first: `features`, `checkpoint`, `clusters`, or
            annotators that are open already.
        factors: The factors to label.
        settings: Settings of the annotators that are opened by name.
        overwrite: Whether to replace human labels too.
        report: Markdown file to write the agreement of the annotators to.
        progress: Whether to show progress bars.

    Returns:
        All texts, also those without a label.

    Raises:
        ConfigError: An argument is wrong, a file cannot be written or would be lost, or an
            annotator cannot work.
        RecordError: With every wrong line of the source.
        CheckpointError: The checkpoint cannot be loaded, or was made for another encoder.
        EncoderError: The encoder cannot be loaded.
        StoreError: The store cannot be used.
    """
    output = Path(output)
    caches = [one.cache for one in by if not isinstance(one, str) and one.cache is not None]
    refuse_same_file(
        ("--input", source),
        ("--output", output),
        ("--report", report),
        *(("--answers", path) for path in caches),
    )
    refuse_stream(output)
    texts = read_texts(source)
    records = [record for _, record in texts]
    if not overwrite:
        refuse_lost_labels(output, kept=records, advice=_ADVICE)
    annotators = open_annotators(
        by, records, factors=factors, settings=settings or AnnotatorSettings(), progress=progress
    )
    check_origins(annotators)
    partials = [_partial_of(output, one) for one in annotators]
    given = {
        one.origin: _annotate(one, records, partial=partial, progress=progress)
        for one, partial in zip(annotators, partials, strict=True)
    }
    labelled = merge_labels(records, given, factors=factors, overwrite=overwrite)
    write_lines(
        output,
        (
            labelled_line(line, record)
            for (line, _), record in zip(texts, labelled.records, strict=True)
            if record.factors
        ),
    )
    for partial in partials:
        partial.unlink(missing_ok=True)
    if report is not None:
        _write_report(labelled, Path(report))
    return labelled


def labelled_line(line: Line, record: Record) -> dict[str, Any]:
    """Returns the line with the labels of the record; all other fields are kept."""
    rest = {name: value for name, value in line.value.items() if name != "origins"}
    origins = {"origins": record.origins} if record.origins else {}
    return {**rest, "factors": record.factors, **origins}


def refuse_stream(output: Path | str) -> None:
    """Raises if labels were to go to a pipe or a device, as an interrupted run goes on from a file.

    Raises:
        ConfigError: The output is one, or may not be looked at.
    """
    try:
        stream = is_stream(output)
    except OSError as error:
        raise ConfigError(f"--output: cannot write {output}: {error}") from error
    if stream:
        raise ConfigError(
            f"--output: {output} is a pipe or a device; labels are kept in a file: give its name"
        )


def _partial_of(output: Path, annotator: Annotator) -> Path:
    kind = annotator.origin.partition(":")[0]
    return output.with_name(f".{output.name}.{kind}.partial")


def _annotate(
    annotator: Annotator, records: Sequence[Record], *, partial: Path, progress: bool
) -> list[Factors]:
    if annotator.cache is not None:  # it continues by itself and retries failed texts
        return list(annotator.annotate(records, progress=progress))
    return annotate(annotator, records, partial=partial, progress=progress)


def _write_report(labelled: LabelledTexts, path: Path) -> None:
    table = "Nothing to compare: one annotator."
    if labelled.agreements:
        table = agreement_table(labelled.agreements)
    try:
        write_whole(path, f"# Agreement between annotators\n\n{table}\n".encode())
    except OSError as error:
        raise ConfigError(f"--report: cannot write {path}: {error}") from error
