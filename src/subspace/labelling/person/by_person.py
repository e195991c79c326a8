"""Labels and comparisons of texts by a person, who is asked one question after the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.files import Line
from subspace.labelling.label_file import refuse_stream
from subspace.labelling.person.comparison_notebook import ComparisonNotebook
from subspace.labelling.person.interview import Interview, interview
from subspace.labelling.person.label_notebook import LabelNotebook
from subspace.labelling.person.questions import ask_each, ask_pairs
from subspace.labelling.person.screen import Screen
from subspace.labelling.person.skipped import Skipped
from subspace.labelling.read_texts import read_texts
from subspace.outputs import refuse_same_file


def label_by_person(
    source: Path | str,
    output: Path | str,
    *,
    factors: Sequence[str],
    screen: Screen,
    classes: Mapping[str, Sequence[str]] | None = None,
    ids: Sequence[str] | None = None,
) -> Interview:
    """Asks a person for labels of the texts of a JSONL file, and writes them without an origin.

    Every answer is on disk before the next question, and the same call continues after it. Labels
    that people gave in the source are kept and not asked for.

    Args:
        source: JSONL with `id` and `text`.
        output: File of the labelled texts, gzipped if its name ends in `.gz`.
        factors: The factors to label.
        screen: Where to ask.
        classes: By factor, its classes; factors without are numbers, unless labels of it that are
            there are classes.
        ids: Which texts to ask for, in this order; None for all, in the order of the source.

    Raises:
        ConfigError: Source and output are one file, labels of a factor are of two kinds, or the
            output holds other texts or cannot be written.
        RecordError: With every wrong line of a file.
    """
    refuse_same_file(("--input", source), ("--output", output))
    refuse_stream(output)
    texts = read_texts(source)
    notebook = LabelNotebook(texts, Path(output), factors=factors, classes=classes or {})
    questions = list(ask_each(_choose(texts, ids), factors=factors))
    total = len(notebook.past) + sum(not notebook.is_answered(one) for one in questions)
    return interview(
        questions, notebook=notebook, skipped=_skipped(output), screen=screen, total=total
    )


def compare_by_person(
    source: Path | str,
    output: Path | str,
    *,
    factors: Sequence[str],
    screen: Screen,
    ids: Sequence[str] | None = None,
    seed: int = 0,
) -> Interview:
    """Asks a person which of two texts has more of a factor, and writes comparisons.

    Every answer is on disk before the next question, and the same call continues after it. In every
    round of pairs each text comes once, and no pair comes twice.

    Args:
        source: JSONL with `id` and `text`.
        output: File of the comparisons, as `read_comparisons` reads it.
        factors: The factors to compare.
        screen: Where to ask.
        ids: Which texts to compare; None for all.
        seed: Of the order of the pairs.

    Raises:
        ConfigError: Source and output are one file, there are no two texts, `seed` is below 0, or
            the output cannot be written.
        RecordError: With every wrong line of a file.
    """
    refuse_same_file(("--input", source), ("--output", output))
    refuse_stream(output)
    records = _choose(read_texts(source), ids)
    if len(records) < 2 or seed < 0:
        raise ConfigError(
            f"--pairs needs two texts or more, and a --seed of 0 or more; got {len(records)} "
            f"and {seed}"
        )
    notebook = ComparisonNotebook(records, Path(output), factors=factors)
    questions = ask_pairs(records, factors=factors, seed=seed)
    return interview(questions, notebook=notebook, skipped=_skipped(output), screen=screen)


def _choose(texts: Sequence[tuple[Line, Record]], ids: Sequence[str] | None) -> list[Record]:
    records = {record.id: record for _, record in texts}
    return list(records.values()) if ids is None else [records[one] for one in ids]


def _skipped(output: Path | str) -> Skipped:
    path = Path(output)
    return Skipped(path.with_name(f".{path.name}.skipped"))
