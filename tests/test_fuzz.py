"""Whatever is read from outside is read, or refused in a sentence; nothing else may happen."""

import random

import pytest
from fuzz_world import Fuzzing
from retrieval_world import make_model

NAMES = (
    *("records", "comparisons", "retrieval set", "skill", "uses", "weights", "weights in yaml"),
    *("toward", "filter", "metadata", "index folder", "store folder", "checkpoint", "http", "mcp"),
)
TRIES = 40
PIECES = (
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\n", b'"', b"\\", b"\\ud800", b"{", b"}", b"["),
    *(b"]", b",", b":", b"null", b"true", b"NaN", b"-1", b"1e999", b"9" * 400, b"[" * 2000),
    *(b"---\n", b"&a *a", b"!!python/object:x ", b"=", b">=", b"\xf0\x9f\x99\x82", b"\xe2\x80\xa8"),
)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Changes a few places of an input: flipped bits, cuts, doubles, special pieces."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(5)
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + rng.randint(1, 20) :]
        elif kind == 3:
            data = data[:at] + data[at : at + rng.randint(1, 40)] + data[at:]
        else:
            data = data[:at] + rng.randbytes(rng.randint(1, 4)) + data[at:]
    return data


@pytest.fixture(scope="module")
def fuzzing(tiny_qwen):
    fuzzing = Fuzzing(make_model(tiny_qwen))
    yield fuzzing
    fuzzing.close()


def test_every_target_is_tried(fuzzing):
    assert set(fuzzing.targets) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_from_outside_ends_in_a_traceback(name, fuzzing):
    target, rng = fuzzing.targets[name], random.Random(name)
    for seed in target.seeds:
        target.run(seed)
    for number in range(TRIES):
        data = mutate(rng.choice(target.seeds), rng)
        try:
            target.run(data)
        except BaseException as error:
            raise AssertionError(f"try {number} of {name}: {data!r:.2000}") from error
