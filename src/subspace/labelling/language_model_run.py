"""LanguageModelRun: asks for batches of texts, and asks again for missing labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from subspace.errors import ConfigError
from subspace.labelling.language_model_answers import AnswerFile
from subspace.labelling.language_model_endpoint import Endpoint, RefusedError, UnreachableError
from subspace.labelling.language_model_prompt import (
    make_batches,
    make_instructions,
    make_schema,
    make_texts,
    read_answer,
)
from subspace.labelling.rubric import Rubric

# The run ends after this number of batches in a row without a label.
MOST_FAILED = 5
# Letters of a key that are sent as the id of a text; too many for the author of another text to
# guess.
ID_LENGTH = 9


class LanguageModelRun:
    """Asks for labels; several threads may use it at once. Writes every answer to the disk.

    Attributes:
        problems: By key, the reason why the last answer was not complete.
        input_tokens: Tokens sent, as counted by the endpoint.
        output_tokens: Tokens answered, counted in the same way.
        reached: Whether the endpoint has answered anything, including refusals.
    """

    def __init__(self, endpoint: Endpoint, answers: AnswerFile, *, rubric: Rubric) -> None:
        """Prepares a run; sends nothing yet.

        Args:
            endpoint: Asks the model.
            answers: Keeps the answers.
            rubric: The factors and their labels.
        """
        self.problems: dict[str, str] = {}
        self.input_tokens = 0
        self.output_tokens = 0
        self.reached = False
        self._endpoint = endpoint
        self._answers = answers
        self._rubric = rubric
        self._instructions = make_instructions(rubric)
        self._schema = make_schema(rubric)
        self._failed = 0
        self._lock = Lock()
        self._stopped: ConfigError | None = None

    def ask(self, batch: Mapping[str, str]) -> bool:
        """Asks for the labels of texts: first all at once, then all missing ones, then one by one.

        Args:
            batch: Texts by key.

        Returns:
            Whether any label came.

        Raises:
            ConfigError: No request can succeed, `MOST_FAILED` batches in a row got no label, or an
                answer cannot be written. Every later call raises it too.
        """
        try:
            any_label = self._ask_in_rounds(batch)
            self._count(batch, any_label=any_label)
            return any_label
        except ConfigError as error:
            self.stop(error)
            raise

    def stop(self, reason: ConfigError) -> None:
        """Stops the run: sends no more requests, but keeps the answers to those already sent."""
        self._stopped = self._stopped or reason

    def missing(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Returns those of the texts, by key, that lack a label."""
        return {key: text for key, text in texts.items() if self.missing_factors(key)}

    def missing_factors(self, key: str) -> list[str]:
        """Returns the factors that a text lacks."""
        labels = self._answers.get(key)
        return [name for name in self._rubric if name not in labels]

    def _ask_in_rounds(self, batch: Mapping[str, str]) -> bool:
        """Asks in up to three rounds for missing labels; returns whether any label came."""
        missing, any_label = dict(batch), False
        for size in (len(batch), len(batch), 1):
            for part in make_batches(missing, size):
                if self._stopped is not None:
                    raise self._stopped
                try:
                    any_label |= self._ask_once(part)
                    self.reached = True
                except UnreachableError as error:
                    self.problems.update(dict.fromkeys(missing, str(error)))
                    return any_label
            missing = self.missing(missing)
        return any_label

    def _ask_once(self, part: Mapping[str, str]) -> bool:
        """Sends one request and keeps its answer; returns whether any label came."""
        keys = {key[:ID_LENGTH]: key for key in part}
        try:
            reply = self._endpoint.ask(
                instructions=self._instructions,
                texts=make_texts({name: part[key] for name, key in keys.items()}),
                schema=self._schema,
            )
        except RefusedError as error:
            self.problems.update(dict.fromkeys(part, str(error)))
            return False
        found, problem = read_answer(reply.content, ids=list(keys), rubric=self._rubric)
        self._answers.add({keys[name]: factors for name, factors in found.items() if factors})
        for name, key in keys.items():
            if missing := self.missing_factors(key):
                outside = f"the answer for {' and '.join(missing)} is outside the rubric"
                self.problems[key] = problem or (
                    outside if name in found else "the answer leaves the text out"
                )
        with self._lock:
            self.input_tokens += reply.input_tokens
            self.output_tokens += reply.output_tokens
        return any(found.values())

    def _count(self, batch: Mapping[str, str], *, any_label: bool) -> None:
        with self._lock:
            self._failed = 0 if any_label else self._failed + 1
            if self._failed >= MOST_FAILED:
                raise ConfigError(
                    f"{MOST_FAILED} batches in a row got no label from the language model; the "
                    f"last: {self.problems[next(iter(batch))]}. Answers are kept; run the same "
                    "command again to continue"
                )


@contextmanager
def asking(
    run: LanguageModelRun, batches: Sequence[Mapping[str, str]], *, parallel: int
) -> Iterator[Callable[[Iterable[str]], None]]:
    """Asks for batches in the background, and stops asking when the context ends.

    Args:
        run: Sends the requests.
        batches: Texts by key.
        parallel: Requests at the same time.

    Yields:
        A function that waits for the answers to keys.
    """
    with ThreadPoolExecutor(parallel) as pool:
        futures = [pool.submit(run.ask, batch) for batch in batches]
        place = {key: number for number, batch in enumerate(batches) for key in batch}

        def wait_for(keys: Iterable[str]) -> None:
            for key in keys:
                if key in place:
                    futures[place[key]].result()
                    if run.missing_factors(key):
                        # The endpoint may be down. That ends the run, unless the endpoint has
                        # answered before or a later batch gets a label.
                        later = any(future.result() for future in futures[place[key] :])
                        if not (later or run.reached):
                            raise ConfigError(f"no answer came: {run.problems[key]}")

        try:
            yield wait_for
        finally:
            run.stop(ConfigError("the run was stopped"))
            pool.shutdown(cancel_futures=True)
