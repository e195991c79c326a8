"""What asking a language model will cost, before anything is sent."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subspace.labelling.language_model_prompt import make_instructions, make_texts
from subspace.labelling.rubric import Rubric

# UTF-8 bytes per token: English has about four letters a token, and scripts with more bytes a
# letter have fewer letters a token.
_BYTES_PER_TOKEN = 4
# Every message is wrapped in a few tokens of its own.
_OVERHEAD = 10

Prices = tuple[float, float]


@dataclass(frozen=True)
class CostEstimate:
    """What a run will ask.

    Attributes:
        texts: Texts to ask about, those that are asked twice counted twice.
        requests: Requests, if none fails.
        input_tokens: Tokens sent, about.
        output_tokens: Tokens answered, about; without what a model thinks aloud.
        prices: Of a million tokens sent and of a million answered, if known.
    """

    texts: int
    requests: int
    input_tokens: int
    output_tokens: int
    prices: Prices | None = None

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.texts} texts in {self.requests} requests, about "
            f"{say_tokens(self.input_tokens, self.output_tokens, prices=self.prices)}"
        )


def estimate_cost(
    batches: Sequence[Mapping[str, str]], *, rubric: Rubric, prices: Prices | None = None
) -> CostEstimate:
    """Counts the tokens of all requests at four bytes a token.

    Args:
        batches: Texts by id, one request each.
        rubric: What they are labelled by.
        prices: Of a million tokens sent and of a million answered.
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


def say_tokens(sent: int, answered: int, *, prices: Prices | None) -> str:
    """Tokens, and what they cost where prices are known."""
    said = f"{sent:,} tokens sent and {answered:,} answered"
    if prices is None:
        return f"{said} (give --prices to see what that costs)"
    return f"{said}: {(sent * prices[0] + answered * prices[1]) / 1e6:.4f} at the prices given"


def _count(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)
