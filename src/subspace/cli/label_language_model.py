"""The arguments of `--by language-model`, what it asks before the start, and what it says after."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.labelling.language_model import LanguageModelAnnotator, RunReport
    from subspace.labelling.language_model_cost import CostEstimate


def add_language_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments, in a group of their own."""
    group = parser.add_argument_group(
        "language model",
        "An OpenAI-compatible endpoint, for --by language-model; nothing is sent without that. "
        "The key comes from the environment variable OPENAI_API_KEY.",
    )
    group.add_argument("--base-url", metavar="URL", help="where it is: http://localhost:8000/v1")
    group.add_argument("--model", metavar="NAME", help="the model, as the endpoint calls it")
    group.add_argument("--rubric", metavar="F", help="YAML file of what factors are judged by")
    group.add_argument(
        "--answers",
        default="runs/answers.jsonl",
        metavar="F",
        help="file of its answers; what is there is not asked again (default: %(default)s)",
    )
    for name, kind, default, metavar, what in (
        ("batch", int, 10, "N", "texts a request"),
        ("parallel", int, 4, "N", "requests at once"),
        ("timeout", float, 120.0, "S", "seconds that a request may take"),
        ("retries", int, 6, "N", "how often a request is sent again after an error"),
        (
            "repeat",
            float,
            0.0,
            "SHARE",
            "share of the texts to ask twice, to see whether the answers agree",
        ),
    ):
        group.add_argument(
            f"--{name}",
            type=kind,
            default=default,
            metavar=metavar,
            help=f"{what} (default: %(default)s)",
        )
    group.add_argument(
        "--prices",
        metavar="IN,OUT",
        help="prices of a million tokens sent and answered, for the estimate before the start",
    )
    group.add_argument("--yes", action="store_true", help="start without asking")


def make_language_model_annotator(
    arguments: argparse.Namespace, factors: Sequence[str]
) -> "LanguageModelAnnotator":
    """The annotator that the arguments describe; it asks for consent before it sends anything.

    Raises:
        ConfigError: An argument is missing or wrong, or the rubric says nothing of a factor.
    """
    from subspace.labelling.language_model import LanguageModelAnnotator
    from subspace.labelling.rubric import DEFAULT_RUBRIC, read_rubric

    for name in ("base_url", "model"):
        if not getattr(arguments, name):
            raise ConfigError(f"--{name.replace('_', '-')} is needed for --by language-model")
    return LanguageModelAnnotator(
        model=arguments.model,
        base_url=arguments.base_url,
        cache=Path(arguments.answers),
        rubric=read_rubric(arguments.rubric or DEFAULT_RUBRIC, factors=factors),
        batch_size=arguments.batch,
        parallel=arguments.parallel,
        timeout=arguments.timeout,
        retries=arguments.retries,
        repeat=arguments.repeat,
        prices=_read_prices(arguments.prices),
        confirm=_go_on if arguments.yes else _ask,
        report=_report,
    )


def _read_prices(given: str | None) -> tuple[float, float] | None:
    if given is None:
        return None
    try:
        sent, answered = map(float, given.split(","))
    except ValueError:
        raise ConfigError(f"--prices must read like 0.15,0.60, got {given!r}") from None
    return sent, answered


def _go_on(estimate: "CostEstimate") -> None:
    print(f"asking for {estimate}", file=sys.stderr)


def _ask(estimate: "CostEstimate") -> None:
    _go_on(estimate)
    if not sys.stdin.isatty():
        raise ConfigError("nothing was sent; say --yes to start without being asked")
    print("Send them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was sent")


def _report(report: "RunReport") -> None:
    from subspace.labelling.annotator_agreement import agreement_table

    labelled = report.texts - len(report.unlabelled)
    print(
        f"language model: {labelled} of {report.texts} texts have all labels; "
        f"{report.input_tokens:,} tokens sent and {report.output_tokens:,} answered now"
    )
    if report.agreement:
        print(agreement_table(report.agreement))
