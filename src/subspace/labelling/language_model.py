"""LanguageModelAnnotator: labels by a language model behind an OpenAI-compatible endpoint."""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tqdm import tqdm

from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError
from subspace.labelling.annotator import Annotation
from subspace.labelling.annotator_agreement import Agreement, compare_annotators
from subspace.labelling.language_model_answers import AnswerFile, answer_key
from subspace.labelling.language_model_cost import CostEstimate, Prices, estimate_cost
from subspace.labelling.language_model_endpoint import Endpoint, check_endpoint
from subspace.labelling.language_model_prompt import make_batches, make_instructions
from subspace.labelling.language_model_run import LanguageModelRun, asking
from subspace.labelling.rubric import Rubric, read_rubric

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunReport:
    """What a run did.

    Attributes:
        texts: Number of documents.
        unlabelled: Ids of those that lack a label.
        input_tokens: Sent in this run, as the endpoint counted; 0 if it does not say.
        output_tokens: Answered, the same.
        agreement: Of the first answers and the second, over the texts that were asked twice.
    """

    texts: int
    unlabelled: tuple[str, ...]
    input_tokens: int
    output_tokens: int
    agreement: tuple[Agreement, ...]


@dataclass(frozen=True, kw_only=True)
class LanguageModelAnnotator:
    """Asks a language model for the labels of texts; what it answered is never asked again.

    Attributes:
        model: As the endpoint calls it.
        base_url: Where the endpoint is, such as `http://localhost:8000/v1`. The key comes from
            the environment variable `OPENAI_API_KEY`.
        cache: JSONL file of the answers, made where there is none.
        rubric: What is labelled, and by what.
        batch_size: Texts a request.
        parallel: Requests at once.
        timeout: Seconds that a request may take.
        retries: How often a request is sent again after an error that may pass.
        repeat: Share of the texts that are asked twice, in [0, 1].
        prices: Of a million tokens sent and of a million answered, for the estimate.
        confirm: Told what will be asked before anything is sent; stops the run by raising.
        report: Told at the end what was done.
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
        """Refuses what cannot work.

        Raises:
            ConfigError: With the first wrong setting; or the package openai is not installed.
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
        """What its labels are marked with."""
        return f"language-model:{self.model}"

    @property
    def identity(self) -> str:
        """Digest of the model's name and of what it is told."""
        return hashlib.sha256(f"{self.model}\n{self._instructions}".encode()).hexdigest()

    @property
    def factors(self) -> tuple[str, ...]:
        """What it labels."""
        return tuple(self.rubric)

    def annotate(
        self, documents: Sequence[Document], *, progress: bool = False
    ) -> Iterator[Annotation]:
        """Yields one annotation per document, in order; those that failed lack factors.

        Args:
            documents: What to label.
            progress: Shows a bar.

        Raises:
            ConfigError: The endpoint cannot be used, `confirm` says no, or five batches in a row
                got no label. What was answered is kept.
            RecordError: The file of answers holds something else.
        """
        keys = {document.id: self._key(document.text) for document in documents}
        texts = {keys[document.id]: document.text for document in documents}
        again = self._draw_again(texts)
        with AnswerFile.open(self.cache) as answers, closing(self._open_endpoint()) as endpoint:
            run = LanguageModelRun(endpoint, answers, rubric=self.rubric)
            batches = self._plan(run, texts, {key: texts[first] for key, first in again.items()})
            with asking(run, batches, parallel=self.parallel) as wait_for:
                for document in tqdm(documents, desc="asking", unit="text", disable=not progress):
                    key = keys[document.id]
                    wait_for([key])
                    if missing := run.missing_factors(key):
                        what = " or ".join(missing)
                        _log.warning(
                            "text '%s' has no %s: %s", document.id, what, run.problems[key]
                        )
                    yield Annotation(id=document.id, factors=answers.get(key))
                wait_for(again)
            if self.report is not None:
                twice = {
                    "first answer": [answers.get(key) for key in again.values()],
                    "second answer": [answers.get(key) for key in again],
                }
                self.report(
                    RunReport(
                        texts=len(documents),
                        unlabelled=tuple(
                            d.id for d in documents if run.missing_factors(keys[d.id])
                        ),
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

    def _draw_again(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Keys of what is asked a second time, and those of the first.

        Both are in the order of hashes: the choice is the same in every run, and texts that were
        asked together meet others.
        """
        chosen = sorted(texts)[: math.ceil(self.repeat * len(texts))]
        return dict(sorted((self._key(texts[key], turn=2), key) for key in chosen))

    def _plan(self, run: LanguageModelRun, *asked: Mapping[str, str]) -> list[dict[str, str]]:
        """The batches to ask for, once `confirm` has agreed."""
        batches = [
            batch for texts in asked for batch in make_batches(run.missing(texts), self.batch_size)
        ]
        if batches and self.confirm is not None:
            self.confirm(estimate_cost(batches, rubric=self.rubric, prices=self.prices))
        return batches
