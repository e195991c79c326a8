"""Arguments of another type are refused in a sentence that names them, and names of blocks do."""

from pathlib import Path

import pytest

import subspace
from subspace.encoder import EncoderSpec
from subspace.errors import SubspaceError


@pytest.fixture(scope="module")
def given(labelled_folder, tiny_qwen, tmp_path_factory):
    return {
        "records": subspace.read_records(labelled_folder / "parallel"),
        "encoder": EncoderSpec(model=str(tiny_qwen), layers=(1, 2)),
        "store": tmp_path_factory.mktemp("store"),
    }


def fit(given, **changed):
    arguments = {**given, **changed}
    return subspace.fit(arguments.pop("records"), **arguments)


def test_names_of_blocks_stand_for_the_usual_blocks(given):
    named = fit(given, blocks=["topic", "style"])
    usual = fit(given)
    assert list(named.layout) == ["topic", "style"]
    for name in named.layout:
        assert named.recipe["blocks"][name] == usual.recipe["blocks"][name]
    assert list(fit(given, blocks=("style",)).layout) == ["style"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"blocks": "style"}, "blocks must be a list or a mapping, got the text 'style'"),
        ({"blocks": 3}, "blocks must be of type Iterable, got int: give a list of names"),
        ({"blocks": [3]}, "each of the blocks must be of type str, got int"),
        ({"blocks": ["style", "style"]}, "blocks name 'style' twice"),
        ({"blocks": ["tone"]}, "no source is labelled with 'tone'"),
        ({"records": "data/factorial"}, "got str: read them with subspace.read_records"),
        ({"records": 3}, "records must be of type Iterable, got int: read them with"),
        (
            {"records": [{"id": "a", "text": "t"}]},
            "each of the records must be of type Record, got dict",
        ),
        ({"encoder": 3}, "encoder must be of type EncoderSpec or str, got int"),
        ({"weak": {"features": 1}}, "weak must be of type WeakSupervision, got dict"),
        ({"origin_weights": ["features"]}, "origin_weights must be of type Mapping, got list"),
    ],
)
def test_fit_refuses_what_it_cannot_take(given, changed, said):
    with pytest.raises(SubspaceError, match=said):
        fit(given, **changed)


def test_the_other_public_functions_refuse_what_they_cannot_take(given, tmp_path):
    model = fit(given, blocks=["topic"])
    refused = {
        "got NoneType": lambda: subspace.load(None),
        "got int": lambda: subspace.load(3),
        "model must be of type Model, got str": lambda: subspace.evaluate("minilm", []),
        "each of the records must be of type Record, got dict": lambda: subspace.evaluate(
            model, [{"id": "a"}]
        ),
        "model must be of type Model, got Po": lambda: subspace.adapt(Path("minilm"), None),
        "data must be of type RetrievalSet, got list": lambda: subspace.adapt(model, []),
        "an index takes Records|Record": lambda: subspace.Index.create(
            tmp_path / "index", model, [{"id": "a"}]
        ),
        "loaded from a folder": lambda: subspace.Index.create(tmp_path / "index", 3),
    }
    for said, call in refused.items():
        with pytest.raises(SubspaceError, match=said):
            call()
    assert not list(tmp_path.iterdir())
