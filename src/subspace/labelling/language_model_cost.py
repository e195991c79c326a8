"""CostEstimate: the estimated cost of a run, before anything is sent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subspace.labelling.language_model_prompt import make_instructions, make_texts
from subspace.labelling.rubric import Rubric

# UTF-8 bytes per token. English has about four letters per token; scripts with more bytes per
# letter have fewer letters per token.
_BYTES_PER_TOKEN = 4
# Tokens that wrap a message.
_OVERHEAD = 10

Prices = tuple[float, float]


@dataclass(frozen=True)
class CostEstimate:
    """Estimate of the requests and tokens of a run.

    Attributes:
        texts: Number of texts; a text that is asked twice counts twice.
        requests: Number of requests if none fails.
        input_tokens: Estimated tokens sent.
        output_tokens: Estimated tokens answered, without a model's reasoning.
        prices: Price of a million tokens sent and of a million answered, if known.
    """

    texts: int
    requests: int
    input_tokens: int
    output_tokens: int
    prices: Prices | None = None

    def __str__(self) -> str:
        """Formats the estimate in one line."""
        return (
            f"{self.texts} texts in {self.requests} requests, about "
            f"{_format_tokens(self.input_tokens, self.output_tokens, prices=self.prices)}"
        )


def estimate_cost(
    batches: Sequence[Mapping[str, str]], *, rubric: Rubric, prices: Prices | None = None
) -> CostEstimate:
    """Estimates the tokens of all requests, at four bytes per token.

    Args:
        batches: Texts by id, one request each.
        rubric: The factors and their labels.
        prices: Price of a million tokens sent and of a million answered.
    """
    instructions = _count(make_instructions(rubric)) + _OVERHEAD
    entry = {"id": "t" + 8 * "0"} | {
        name: max(factor.labels, key=lambda label: len(str(label)))
        for name, factor in rubric.items()
    }
    texts = sum(map(len, batches))
    return CostEstimate(
        texts=texts,
        requests=len(batches),
        input_tokens=sum(instructions + _count(make_texts(batch)) for batch in batches),
        output_tokens=texts * _count(json.dumps(entry)) + len(batches) * _OVERHEAD,
        prices=prices,
    )


def _format_tokens(sent: int, answered: int, *, prices: Prices | None) -> str:
    tokens = f"{sent:,} tokens sent and {answered:,} answered"
    if prices is None:
        return f"{tokens} (give --prices to see the cost)"
    return f"{tokens}: {(sent * prices[0] + answered * prices[1]) / 1e6:.4f} at the prices given"


def _count(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)
