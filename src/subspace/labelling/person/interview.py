"""Interview: asks a person one question after the other, and keeps every answer at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from subspace.data.records import Record
from subspace.labelling.person.questions import Notebook, Question
from subspace.labelling.person.scale import MORE, QUIT, SKIP, UNDO, UnclearReply
from subspace.labelling.person.screen import Screen
from subspace.labelling.person.skipped import Skipped

# Number of characters of a text that are shown at a time.
PAGE = 800
_ANSWER, _END = "answer", "end"
_KEYS = "empty skips, u undoes, q stops"


@dataclass(frozen=True)
class Interview:
    """What came of an interview.

    Attributes:
        answered: Number of answers that are kept, with those of earlier runs.
        skipped: Number of questions skipped in this run.
        finished: Whether every question was asked.
    """

    answered: int
    skipped: int
    finished: bool


def interview(
    questions: Iterable[Question],
    *,
    notebook: Notebook,
    skipped: Skipped,
    screen: Screen,
    total: int | None = None,
) -> Interview:
    """Asks questions until all are asked, or the person stops by `q`, Ctrl-D or Ctrl-C.

    Questions that are answered already are left out, and those that earlier runs skipped come last.

    Args:
        questions: The questions; each is asked once.
        notebook: Keeps the answers.
        skipped: Keeps what is skipped.
        screen: Where to ask.
        total: Number of questions, if it is known.

    Raises:
        ConfigError: A file cannot be written.
    """
    done = [(question, True) for question in notebook.past]
    again: list[Question] = []
    waiting = _in_turn(questions, notebook=notebook, last=frozenset(skipped.keys))
    outcome = ""
    try:
        while outcome != QUIT:
            question = again.pop() if again else next(waiting, None)
            if question is None:
                outcome = _ask_at_end(screen)
            else:
                place = f"{len(done) + 1}" + (f" of {total}" if total is not None else "")
                outcome = _ask(question, place=place, notebook=notebook, screen=screen)
            if outcome == UNDO:
                again += [] if question is None else [question]
                if done:
                    earlier, answered = done.pop()
                    (notebook.erase if answered else skipped.remove)(earlier)
                    again.append(earlier)
                    screen.say(f"undone: {earlier.factor}")
                else:
                    screen.say("there is nothing to undo")
            elif question is None:
                break
            elif outcome != QUIT:
                (skipped.add if outcome == SKIP else skipped.remove)(question)
                done.append((question, outcome != SKIP))
    except KeyboardInterrupt:  # what was answered is on disk
        screen.say("")
        outcome = QUIT
    skips = sum(not answered for _, answered in done)
    return Interview(answered=len(notebook.past), skipped=skips, finished=outcome == _END)


def _in_turn(
    questions: Iterable[Question], *, notebook: Notebook, last: frozenset[tuple[str, ...]]
) -> Iterator[Question]:
    later, before = [], {question.key for question in notebook.past}  # some may be undone
    for question in questions:
        if question.key in before or notebook.is_answered(question):
            continue
        if question.key in last:
            later.append(question)
        else:
            yield question
    yield from later


def _ask_at_end(screen: Screen) -> str:
    """Asks whether to undo the last answer; returns UNDO, or _END for all other replies."""
    reply = screen.ask("all are asked (empty ends, u undoes)")
    return UNDO if reply is not None and reply.lower() == UNDO else _END


def _ask(question: Question, *, place: str, notebook: Notebook, screen: Screen) -> str:
    """Asks until there is an answer, which is on disk then, or SKIP, UNDO or QUIT."""
    screen.say("")
    _show(question, place=place, screen=screen)
    longest, shown = max(len(record.text) for record in question.records), PAGE
    while True:
        more = f", {MORE} shows more" if shown < longest else ""
        reply = screen.ask(f"{notebook.prompt(question)} ({_KEYS}{more})")
        if reply is None:
            return QUIT
        command = reply.lower()
        if command in (SKIP, UNDO, QUIT):
            return command
        if command == MORE:
            _show_more(question, start=shown, screen=screen)
            shown += PAGE
            continue
        try:
            screen.say(f"noted: {notebook.note(question, reply)}")
        except UnclearReply as error:
            screen.say(f"'{reply:.40}' is no answer: {error}")
        else:
            return _ANSWER


def _show(question: Question, *, place: str, screen: Screen) -> None:
    """Shows the beginning of each text."""
    if len(question.records) == 1:
        screen.say(f"[{place}] {question.records[0].id:.60}")
        _show_page(question.records[0], start=0, screen=screen)
        return
    screen.say(f"[{place}] two texts")
    for number, record in enumerate(question.records, start=1):
        screen.say(f"{number}: {record.id:.60}")
        _show_page(record, start=0, screen=screen)


def _show_more(question: Question, *, start: int, screen: Screen) -> None:
    """Shows the next page of each text that has one."""
    rest = [
        (number, record)
        for number, record in enumerate(question.records, start=1)
        if len(record.text) > start
    ]
    for number, record in rest:
        if len(question.records) > 1:
            screen.say(f"{number}, continued:")
        _show_page(record, start=start, screen=screen)
    if not rest:
        screen.say("that was all of it")


def _show_page(record: Record, *, start: int, screen: Screen) -> None:
    end = start + PAGE
    screen.show(record.text[start:end] + ("..." if len(record.text) > end else ""))
