"""Labels the texts of a JSONL file; all other fields of its lines are kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subspace.data.records import Record, read_factors, read_origins
from subspace.errors import ConfigError
from subspace.files import Line, Problems, read_lines, read_text, write_lines, write_whole
from subspace.labelling.annotator import Annotator, Factors
from subspace.labelling.annotator_agreement import agreement_table
from subspace.labelling.label_texts import LabelledTexts, check_origins, merge_labels
from subspace.labelling.open_annotators import FEATURES, AnnotatorSettings, open_annotators
from subspace.labelling.resumable import annotate

DEFAULT_FACTORS = ("complexity", "specificity", "style")


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
    hidden file beside the output, and the same call continues from there.

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
    refuse_one_file_twice(
        ("--input", source),
        ("--output", output),
        *(("--report", path) for path in [report] if path is not None),
        *(("--answers", path) for path in caches),
    )
    texts = read_texts(source)
    records = [record for _, record in texts]
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


def read_texts(path: Path | str) -> list[tuple[Line, Record]]:
    """Reads texts with or without labels from JSONL, each with its line.

    Raises:
        RecordError: With every wrong line.
    """
    problems = Problems()
    texts: dict[str, tuple[Line, Record]] = {}
    for line in read_lines(Path(path), problems=problems):
        record = _read_record(line, problems=problems)
        if record is not None and record.id in texts:
            first = texts[record.id][0].where
            problems.add(line.where, f"id '{record.id}' is used before, at {first}")
        elif record is not None:
            texts[record.id] = line, record
    if not texts and not len(problems):
        problems.add(str(path), "holds no texts")
    problems.raise_if_any()
    return list(texts.values())


def _read_record(line: Line, *, problems: Problems) -> Record | None:
    value, where = line.value, line.where
    record_id = read_text(value, "id", where=where, problems=problems)
    text = read_text(value, "text", where=where, problems=problems)
    unlabelled = value.get("factors") in (None, {})
    factors = {} if unlabelled else read_factors(value["factors"], where=where, problems=problems)
    if record_id is None or text is None or factors is None:
        return None
    origins = read_origins(value.get("origins"), factors=factors, where=where, problems=problems)
    if origins is None:
        return None
    return Record(id=record_id, text=text, factors=factors, origins=origins)


def labelled_line(line: Line, record: Record) -> dict[str, Any]:
    """Returns the line with the labels of the record; all other fields are kept."""
    rest = {name: value for name, value in line.value.items() if name != "origins"}
    origins = {"origins": record.origins} if record.origins else {}
    return {**rest, "factors": record.factors, **origins}


def refuse_one_file_twice(*files: tuple[str, Path | str]) -> None:
    """Raises unless all options name different files, since one would overwrite another.

    Raises:
        ConfigError: Two options name the same file.
    """
    first: dict[Path, str] = {}
    for option, path in files:
        other = first.setdefault(Path(path).resolve(), option)
        if other != option:
            raise ConfigError(f"{option}: {path} is the file of {other} too, which would be lost")


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
