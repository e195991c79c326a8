"""LanguageModelAnnotator: labels texts by a language model at an OpenAI-compatible endpoint."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.labelling.annotator import Factors
from subspace.labelling.annotator_agreement import AnnotatorAgreement, compare_annotators
from subspace.labelling.language_model_answers import AnswerFile, answer_key
from subspace.labelling.language_model_cost import CostEstimate, Prices, estimate_cost
from subspace.labelling.language_model_endpoint import Endpoint, check_endpoint
from subspace.labelling.language_model_prompt import make_batches, make_instructions
from subspace.labelling.language_model_run import LanguageModelRun, asking
from subspace.labelling.rubric import Rubric, read_rubric

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReport:
    """Report on a finished run.

    Attributes:
        texts: Number of texts.
        unlabelled: Ids of the texts that lack a label.
        input_tokens: Tokens sent in this run, as counted by the endpoint; 0 if it does not count.
        output_tokens: Tokens answered in this run, counted in the same way.
        agreement: Agreement of the first and the second answers, over the texts asked twice.
    """

    texts: int
    unlabelled: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    agreement: tuple[AnnotatorAgreement, ...]


@dataclass(frozen=True, kw_only=True)
class LanguageModelAnnotator:
    """Asks a language model for the labels of texts; never asks again for a stored answer.

    Attributes:
        model: Name of the model at the endpoint.
        base_url: Address of the endpoint, such as `http://localhost:8000/v1`. The key is read from
            the environment variable `OPENAI_API_KEY`.
        cache: JSONL file of the answers; made if it does not exist.
        rubric: The factors to label, and their labels.
        batch_size: Texts per request.
        parallel: Requests at the same time.
        timeout: Seconds that a request may take.
        retries: How often to send a request again after a temporary error.
        repeat: Share of the texts to ask twice, in [0, 1].
        prices: Price of a million tokens sent and of a million answered, for the estimate.
        confirm: Called with the estimate before anything is sent; stops the run by raising.
        report: Called with the report at the end of the run.
    """

    model: str
    base_url: str
    cache: Path
    rubric: Rubric = field(default_factory=read_rubric)
    batch_size: int = 10
    parallel: int = 4
    timeout: float = 120.0
    retries: int = 6
    repeat: float = 0.0
    prices: Prices | None = None
    confirm: Callable[[CostEstimate], None] | None = None
    report: Callable[[RunReport], None] | None = None

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
            ConfigError: With the first wrong setting, or the package openai is not installed.
        """
        wholes = {"batch": (self.batch_size, 1), "parallel": (self.parallel, 1)}
        for name, (value, least) in {**wholes, "retries": (self.retries, 0)}.items():
            if value < least:
                raise ConfigError(f"--{name} must be {least} or more, got {value}")
        if not self.model.strip():
            raise ConfigError("--model must name a model of the endpoint")
        if not 0 < self.timeout < math.inf:
            raise ConfigError(f"--timeout must be above 0 seconds, got {self.timeout}")
        if not 0 <= self.repeat <= 1:
            raise ConfigError(f"--repeat must be between 0 and 1, got {self.repeat}")
        if self.prices is not None and not all(0 <= price < math.inf for price in self.prices):
            raise ConfigError(f"--prices must be 0 or more, got {self.prices}")
        check_endpoint(self.base_url)

    @property
    def origin(self) -> str:
        """Origin of its labels: `language-model:NAME`."""
        return f"language-model:{self.model}"

    @property
    def identity(self) -> str:
        """Digest of the model's name and of its instructions."""
        return hashlib.sha256(f"{self.model}\n{self._instructions}".encode()).hexdigest()

    @property
    def factors(self) -> tuple[str, ...]:
        """The factors of the rubric."""
        return tuple(self.rubric)

    def annotate(self, records: Sequence[Record], *, progress: bool = False) -> Iterator[Factors]:
        """Yields the labels of each text, in order. Texts that failed lack factors.

        Args:
            records: The texts to label.
            progress: Whether to show a progress bar.

        Raises:
            ConfigError: The endpoint cannot be used, `confirm` refuses, or five batches in a row
                got no label. Answers are kept.
            RecordError: The file of answers holds something else.
        """
        keys = {record.id: self._key(record.text) for record in records}
        texts = {keys[record.id]: record.text for record in records}
        repeated = self._draw_repeated(texts)
        with AnswerFile.open(self.cache) as answers, closing(self._open_endpoint()) as endpoint:
            run = LanguageModelRun(endpoint, answers, rubric=self.rubric)
            batches = self._plan(run, texts, {key: texts[first] for key, first in repeated.items()})
            with asking(run, batches, parallel=self.parallel) as wait_for:
                for record in tqdm(
                    records, desc="asking", unit="text", disable=not progress or None
                ):
                    key = keys[record.id]
                    wait_for([key])
                    if missing := run.missing_factors(key):
                        named = " or ".join(missing)
                        _log.warning("text '%s' has no %s: %s", record.id, named, run.problems[key])
                    yield answers.get(key)
                wait_for(repeated)
            if self.report is not None:
                twice = {
                    "first answer": [answers.get(key) for key in repeated.values()],
                    "second answer": [answers.get(key) for key in repeated],
                }
                self.report(
                    RunReport(
                        texts=len(records),
                        unlabelled=tuple(r.id for r in records if run.missing_factors(keys[r.id])),
                        input_tokens=run.input_tokens,
                        output_tokens=run.output_tokens,
                        agreement=tuple(compare_annotators(twice, factors=self.factors)),
                    )
                )

    def _open_endpoint(self) -> Endpoint:
        return Endpoint(self.base_url, model=self.model, timeout=self.timeout, retries=self.retries)

    @cached_property
    def _instructions(self) -> str:
        return make_instructions(self.rubric)

    def _key(self, text: str, *, turn: int = 1) -> str:
        return answer_key(text, model=self.model, instructions=self._instructions, turn=turn)

    def _draw_repeated(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Draws texts to ask twice; maps the key of the second answer to that of the first.

        Both keys are hashes, and both are used for the order. So every run draws the same texts,
        and the two requests with a text hold different other texts.
        """
        chosen = sorted(texts)[: math.ceil(self.repeat * len(texts))]
        return dict(sorted((self._key(texts[key], turn=2), key) for key in chosen))

    def _plan(self, run: LanguageModelRun, *asked: Mapping[str, str]) -> list[dict[str, str]]:
        """Makes the batches to ask for, and calls `confirm` with their estimated cost."""
        batches = [
            batch for texts in asked for batch in make_batches(run.missing(texts), self.batch_size)
        ]
        if batches and self.confirm is not None:
            self.confirm(estimate_cost(batches, rubric=self.rubric, prices=self.prices))
        return batches
