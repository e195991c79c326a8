"""A folder of sentence-transformers gives this package's vectors where this package is not."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subspace.blocks import BlockLayout
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError, ConfigError
from subspace.model import Model, Projection, QuerySide
from subspace.model.export.selection import Selection
from subspace.model.export.sentence_transformers import TOLERANCE, export_sentence_transformers

WIDTHS = {"topic": 24, "style": 8, "complexity": 4}
TEXTS = [
    "a dog",
    "The quick brown fox jumps over the lazy dog, twice.",
    "a text that goes on and on " * 40,
    "one two three " * 7,
    "x",
]

# Run by an interpreter in which `import subspace` fails, whatever is installed.
ALONE = """
import importlib.abc, json, sys, warnings

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "subspace":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
try:
    import subspace
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("subspace is there")

import numpy as np
from sentence_transformers import SentenceTransformer

texts, jobs, output = json.loads(sys.argv[1])
found = {}
for name, (folder, method, options) in jobs.items():
    model = SentenceTransformer(folder, device="cpu")
    found[name] = getattr(model, method)(texts, **options)
    found[name + "/dim"] = model.get_embedding_dimension()
    found[name + "/similarity"] = model.similarity(found[name], found[name]).numpy()
np.savez(output, **found)
"""


def make(encoder: Encoder, *, queries: bool = False, seed: int = 0) -> Model:
    """Random blocks; of pairs, the first row of each is a constant, as trained ones have it."""
    rng = np.random.default_rng(seed)
    layout = BlockLayout.from_widths(WIDTHS)

    def side():
        weight = rng.normal(size=(layout.dim, encoder.dim)).astype(np.float32)
        offset = rng.normal(size=layout.dim).astype(np.float32)
        for start in layout.starts if queries else ():
            weight[start], offset[start] = 0, -1
        return weight, offset

    weight, offset = side()
    return Model(
        projection=Projection(
            weight=weight,
            mean=(0.1 * rng.normal(size=encoder.dim)).astype(np.float32),
            layout=layout,
            offset=offset if queries else None,
            query=QuerySide(*side()) if queries else None,
        ),
        encoder=EncoderSpec.from_fingerprint(encoder.fingerprint, model=encoder.spec.model),
        fingerprint=encoder.fingerprint,
    )


@pytest.fixture(scope="module")
def encoders(tiny_qwen) -> dict[str, Encoder]:
    return {
        "minilm": Encoder(EncoderSpec(model="minilm")),
        "qwen": Encoder(EncoderSpec(model=str(tiny_qwen), document_prompt="Text: ", max_length=64)),
    }


# Encoder, whether queries have a matrix of their own, what is chosen.
EXPORTS = {
    "whole": ("minilm", False, {}),
    "weighted": (
        "minilm",
        False,
        {"weights": {"topic": 3.0, "style": 1.0}, "dims": {"topic": 16}},
    ),
    "one block": ("minilm", False, {"weights": {"style": 1.0}}),
    "qwen": ("qwen", True, {}),
    "one of qwen": ("qwen", True, {"weights": {"topic": 1.0}}),
}


@pytest.fixture(scope="module")
def found(encoders, tmp_path_factory) -> dict[str, np.ndarray]:
    """What a process without this package reads from each export, each way."""
    place = tmp_path_factory.mktemp("exports")
    jobs = {}
    for name, (encoder, queries, options) in EXPORTS.items():
        model = make(encoders[encoder], queries=queries)
        exported = export_sentence_transformers(model, place / name, **options)
        assert exported.difference <= TOLERANCE
        for method in ("encode", "encode_document", "encode_query"):
            jobs[f"{name}/{method}"] = (str(place / name), method, {})
    for block in WIDTHS:
        jobs[f"whole/{block}"] = (str(place / "whole"), "encode", {"task": block})
        jobs[f"qwen/{block}"] = (str(place / "qwen"), "encode", {"task": block})
        options = {"task": f"{block}-query", "prompt_name": "query"}
        jobs[f"qwen/{block}-query"] = (str(place / "qwen"), "encode", options)
    result = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, json.dumps([TEXTS, jobs, str(place / "found.npz")])],
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    with np.load(place / "found.npz") as file:
        return dict(file)


def wanted(encoders, name: str, *, queries: bool) -> np.ndarray:
    encoder, has_queries, options = EXPORTS[name]
    selection = Selection.make(make(encoders[encoder], queries=has_queries).projection, **options)
    x = encoders[encoder].encode(TEXTS, kind="query" if queries else "document")
    return selection(x, queries=queries)


@pytest.mark.parametrize("name", EXPORTS)
def test_vectors_of_documents_and_queries_are_this_packages(name, found, encoders):
    documents, queries = (wanted(encoders, name, queries=side) for side in (False, True))
    for method in ("encode", "encode_document"):
        np.testing.assert_allclose(found[f"{name}/{method}"], documents, atol=1e-5)
    np.testing.assert_allclose(found[f"{name}/encode_query"], queries, atol=1e-5)
    assert found[f"{name}/encode/dim"] == documents.shape[1]


def test_queries_differ_where_they_have_a_prompt_or_a_matrix_of_their_own(found):
    def gap(name):
        return np.abs(found[f"{name}/encode_query"] - found[f"{name}/encode"]).max()

    assert gap("whole") == 0
    assert gap("qwen") > 0.1
    assert gap("one of qwen") > 0.1


def test_every_block_is_a_task(found):
    whole = BlockLayout.from_widths(WIDTHS).split(found["whole/encode"])
    for block, part in whole.items():
        np.testing.assert_allclose(found[f"whole/{block}"], part, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1, atol=1e-5)


def test_every_block_of_a_query_is_a_task_where_it_differs(found, encoders):
    queries = BlockLayout.from_widths(WIDTHS).split(wanted(encoders, "qwen", queries=True))
    for block, part in queries.items():
        np.testing.assert_allclose(found[f"qwen/{block}-query"], part, atol=1e-5)
        assert np.abs(found[f"qwen/{block}"] - part).max() > 0.1


def test_the_librarys_similarity_is_the_mean_of_the_blocks_cosines(found):
    parts = BlockLayout.from_widths(WIDTHS).split(found["whole/encode"])
    mean = sum(part @ part.T for part in parts.values()) / len(parts)
    np.testing.assert_allclose(found["whole/encode/similarity"], mean, atol=1e-5)


def test_the_folder_says_what_it_is_and_holds_none_of_this_packages_code(encoders, tmp_path):
    export_sentence_transformers(make(encoders["qwen"]), tmp_path / "out")
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert all(module["type"].startswith("sentence_transformers.") for module in modules)
    assert not list((tmp_path / "out").rglob("*.py"))
    settings = json.loads((tmp_path / "out" / "config_sentence_transformers.json").read_text())
    assert settings["prompts"]["query"].startswith("Instruct: ")
    assert settings["default_prompt_name"] == "document"
    assert "sentence-transformers" in settings["requirements"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "topic 24, style 8, complexity 4" in card
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in (tmp_path / "out").rglob("*"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_several_layers_and_half_precision_are_refused_with_what_to_do(tiny_qwen, tmp_path):
    for options, message in (
        ({"layers": (1, 2)}, r"layers \[1, 2\], .* the last one \(2\) alone: train"),
        ({"layers": (1,)}, r"layers \[1\]"),
        ({"dtype": "bfloat16"}, "train with `data.encoder.dtype: float32`"),
    ):
        model = make(Encoder(EncoderSpec(model=str(tiny_qwen), **options)))
        with pytest.raises(ConfigError, match=message):
            export_sentence_transformers(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_of_other_poolings_one_block_is_exported_and_several_are_refused(
    pooling, tiny_qwen, tmp_path
):
    model = make(Encoder(EncoderSpec(model=str(tiny_qwen), pooling=pooling)))
    with pytest.raises(ConfigError, match="export each alone, such as --weights topic=1"):
        export_sentence_transformers(model, tmp_path / "out")
    alone = export_sentence_transformers(model, tmp_path / "out", weights={"topic": 1})
    assert alone.widths == {"topic": 24}


@pytest.mark.parametrize("name", ["query", "document", "a.b", "a/b", "keys", "two words", "3d"])
def test_a_block_whose_name_cannot_be_a_task_is_exported_alone(name, encoders, tmp_path):
    model = make(encoders["qwen"])
    layout = BlockLayout((name, "style", "complexity"), tuple(WIDTHS.values()))
    renamed = replace(model.projection, layout=layout)
    model = replace(model, projection=renamed, default_weights={}, score_spreads={})
    with pytest.raises(ConfigError, match="cannot be the name of a task"):
        export_sentence_transformers(model, tmp_path / "out")
    if name == "a/b":
        alone = export_sentence_transformers(model, tmp_path / "out", weights={name: 1})
        assert alone.widths == {name: 24}


def test_a_selection_is_whole_only_if_nothing_is_cut_or_weighted(encoders):
    projection = make(encoders["qwen"]).projection
    assert Selection.make(projection).is_complete(projection)
    assert Selection.make(projection, dims=WIDTHS).is_complete(projection)
    for options in (
        {"dims": {"topic": 3}},
        {"weights": {"topic": 1}},
        {"weights": dict.fromkeys(WIDTHS, 1)},
    ):
        assert not Selection.make(projection, **options).is_complete(projection)


def test_somebodys_files_are_never_written_over(encoders, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for taken, message in (
        ("mine", "is not empty"),
        ("file", "is not empty"),
        ("file/below", "cannot write to"),
    ):
        with pytest.raises(ConfigError, match=message):
            export_sentence_transformers(make(encoders["qwen"]), tmp_path / taken)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    export_sentence_transformers(make(encoders["qwen"]), empty)
    assert (empty / "modules.json").is_file()


def test_an_encoder_that_is_another_is_refused_and_nothing_is_written(encoders, tmp_path):
    model = make(encoders["qwen"])
    model = replace(model, encoder=replace(model.encoder, model="minilm"))
    with pytest.raises(CheckpointError, match="made for another encoder"):
        export_sentence_transformers(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_gives_other_vectors_is_not_left_behind(encoders, tmp_path, monkeypatch):
    """Blocks near zero lose digits: the check says so before anybody searches with them."""
    monkeypatch.setattr("subspace.model.export.sentence_transformers.TOLERANCE", 0.0)
    with pytest.raises(CheckpointError, match="gives other vectors"):
        export_sentence_transformers(make(encoders["qwen"]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_folders_below_a_new_one_are_made(encoders, tmp_path):
    deep = tmp_path / "a" / "b"
    assert export_sentence_transformers(make(encoders["qwen"]), deep).folder == Path(deep)
