"""The estimate counts what would be sent."""

import json

from subspace.labelling.language_model_cost import estimate_cost
from subspace.labelling.language_model_prompt import make_instructions, make_texts
from subspace.labelling.rubric import read_rubric

RUBRIC = read_rubric(factors=["complexity", "style"])


def test_tokens_are_a_quarter_of_the_bytes_of_every_request():
    batches = [{"t1": "a text", "t2": "ещё один"}, {"t3": "x" * 4000}]
    found = estimate_cost(batches, rubric=RUBRIC)
    sent = sum(
        len((make_instructions(RUBRIC) + make_texts(batch)).encode()) / 4 for batch in batches
    )
    entry = json.dumps({"id": "t12345678", "complexity": 1, "style": "instructional"})
    assert (found.texts, found.requests) == (3, 2)
    assert sent <= found.input_tokens <= sent + 2 * 12
    assert 3 * len(entry) / 4 <= found.output_tokens <= 3 * len(entry) / 4 + 2 * 12


def test_larger_batches_repeat_the_rubric_less_often():
    texts = {str(n): "a text" for n in range(10)}
    one = estimate_cost([{k: v} for k, v in texts.items()], rubric=RUBRIC)
    all_at_once = estimate_cost([texts], rubric=RUBRIC)
    assert one.input_tokens > 5 * all_at_once.input_tokens


def test_the_price_is_said_where_it_is_known():
    batches = [{"t": "x" * 4_000_000}]
    assert "--prices" in str(estimate_cost(batches, rubric=RUBRIC))
    found = estimate_cost(batches, rubric=RUBRIC, prices=(2.0, 5.0))
    cost = (2 * found.input_tokens + 5 * found.output_tokens) / 1_000_000
    assert f": {cost:.4f} at the prices given" in str(found)
    assert 2 < cost < 2.1
