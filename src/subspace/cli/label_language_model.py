"""Arguments of `subspace label --by language-model`, its request for consent, and its report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.labelling import LanguageModelAnnotator
    from subspace.labelling.language_model import RunReport
    from subspace.labelling.language_model_cost import CostEstimate


def add_language_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments in a group."""
    group = parser.add_argument_group(
        "language model",
        "An OpenAI-compatible endpoint for --by language-model; without that nothing is sent. The "
        "key is read from the environment variable OPENAI_API_KEY.",
    )
    group.add_argument("--base-url", metavar="URL", help="its address: http://localhost:8000/v1")
    group.add_argument("--model", metavar="NAME", help="name of the model at the endpoint")
    group.add_argument(
        "--rubric",
        metavar="F",
        help="YAML file that describes the labels (default: the shipped one)",
    )
    group.add_argument(
        "--answers",
        default="runs/answers.jsonl",
        metavar="F",
        help="file of its answers; texts answered there are not asked again (default: %(default)s)",
    )
    for name, kind, default, metavar, what in (
        ("batch", int, 10, "N", "texts per request"),
        ("parallel", int, 4, "N", "requests at the same time"),
        ("timeout", float, 120.0, "S", "seconds that a request may take"),
        ("retries", int, 6, "N", "how often to send a request again after an error"),
        (
            "repeat",
            float,
            0.0,
            "SHARE",
            "share of the texts to ask twice, to measure whether the answers agree",
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
        help="price of a million tokens sent and of a million answered, for the estimate",
    )
    group.add_argument("--yes", action="store_true", help="start without asking")


def make_language_model(
    arguments: argparse.Namespace, *, factors: Sequence[str]
) -> "LanguageModelAnnotator":
    """Makes the annotator. It asks for consent before it sends anything.

    Raises:
        ConfigError: An argument is missing or wrong, or the rubric lacks a factor.
    """
    from subspace.labelling import LanguageModelAnnotator
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
        confirm=_print_estimate if arguments.yes else _ask_consent,
        report=_print_report,
    )


def _read_prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        sent, answered = map(float, text.split(","))
    except ValueError:
        raise ConfigError(f"--prices must read like 0.15,0.60, got {text!r}") from None
    return sent, answered


def _print_estimate(estimate: "CostEstimate") -> None:
    print(f"asking for {estimate}", file=sys.stderr)


def _ask_consent(estimate: "CostEstimate") -> None:
    _print_estimate(estimate)
    if not sys.stdin.isatty():
        raise ConfigError("nothing was sent; give --yes to start without being asked")
    print("Send them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was sent")


def _print_report(report: "RunReport") -> None:
    from subspace.labelling import agreement_table

    labelled = report.texts - len(report.unlabelled)
    print(
        f"language model: {labelled} of {report.texts} texts have all labels; "
        f"{report.input_tokens:,} tokens sent and {report.output_tokens:,} answered in this run"
    )
    if report.agreement:
        print(agreement_table(report.agreement))
