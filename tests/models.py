"""Small models that several test files save, load and compare."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from subspace.blocks import BlockLayout
from subspace.encoder import Encoder, EncoderSpec, Fingerprint
from subspace.model import LinearHead, Model, Projection, QuerySide
from subspace.model.checkpoint import manifest

WIDTHS = {"style": 2, "topic": 3}
DIM = 4
FINGERPRINT = Fingerprint(
    model="some-model",
    revision="sha256:00",
    pooling="mean",
    query_prompt="Query: ",
    document_prompt="",
    layers=(1, -1),
    max_length=128,
    normalise=True,
    dtype="float32",
    dim=DIM,
)


def make_model(
    *, seed: int = 0, widths: Mapping[str, int] = WIDTHS, weight: np.ndarray | None = None
) -> Model:
    """A model of an encoder that is nowhere, with random blocks and without heads."""
    rng = np.random.default_rng(seed)
    layout = BlockLayout.from_widths(widths)
    if weight is None:
        weight = rng.normal(size=(layout.dim, DIM)).astype(np.float32)
    mean = np.linspace(-1, seed, DIM, dtype=np.float32)
    return Model(
        projection=Projection(weight=weight, mean=mean, layout=layout),
        encoder=EncoderSpec.from_fingerprint(FINGERPRINT, model="folder/of/some-model"),
        fingerprint=FINGERPRINT,
        data={"corpus": "ab" * 32},
        recipe={"solver": "closed_form", "step": seed},
    )


def model_of(encoder: Encoder, *, widths: Mapping[str, int] = WIDTHS, seed: int = 0) -> Model:
    """A model with random blocks of an encoder that can be opened."""
    rng = np.random.default_rng(seed)
    layout = BlockLayout.from_widths(widths)
    fingerprint = encoder.fingerprint
    return Model(
        projection=Projection(
            weight=rng.normal(size=(layout.dim, encoder.dim)).astype(np.float32),
            mean=0.1 * rng.normal(size=encoder.dim).astype(np.float32),
            layout=layout,
        ),
        encoder=EncoderSpec.from_fingerprint(fingerprint, model=encoder.spec.model),
        fingerprint=fingerprint,
    )


def with_queries(model: Model, *, seed: int = 5) -> Model:
    """The same model with a random matrix of its own for queries."""
    rng = np.random.default_rng(seed)
    rows, columns = model.projection.weight.shape
    weight, offset, query_offset = (
        rng.normal(size=shape).astype(np.float32) for shape in ((rows, columns), rows, rows)
    )
    query = QuerySide(weight=weight, offset=query_offset)
    return replace(model, projection=replace(model.projection, offset=offset, query=query))


def with_heads(model: Model, *, seed: int = 6) -> Model:
    """The same model with classes read from its first block, and numbers from the others."""
    rng = np.random.default_rng(seed)
    heads = {}
    for number, (name, width) in enumerate(model.layout.to_widths().items()):
        classes = None if number else ("casual", "formal", "ünïcode")
        outputs = len(classes or "1")
        heads[name] = LinearHead(
            weight=rng.normal(size=(outputs, width)).astype(np.float32),
            bias=rng.normal(size=outputs).astype(np.float32),
            classes=classes,
        )
    return replace(model, heads=heads)


def tensors_of(model: Model) -> dict[str, np.ndarray]:
    """Every array of a model by a name of its own."""
    projection = model.projection
    found = {"weight": projection.weight, "mean": projection.mean, "offset": projection.offset}
    if projection.query is not None:
        found |= {"query": projection.query.weight, "query offset": projection.query.offset}
    for factor, head in model.heads.items():
        found |= {f"head {factor}": head.weight, f"bias {factor}": head.bias}
    return {name: array for name, array in found.items() if array is not None}


def assert_equal(found: Model, wanted: Model) -> None:
    """All of it to the bit, but for where it was read from."""
    mine, theirs = tensors_of(found), tensors_of(wanted)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
        assert array.dtype == np.float32, name
    assert manifest(found) == manifest(wanted)
    assert list(found.layout) == list(wanted.layout)
    assert found.encoder == wanted.encoder
    assert {f: head.classes for f, head in found.heads.items()} == {
        f: head.classes for f, head in wanted.heads.items()
    }
