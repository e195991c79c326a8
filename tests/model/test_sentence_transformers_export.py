"""A folder of sentence-transformers gives this package's vectors where this package is not."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError, ConfigError
from subspace.integrations.sentence_transformers import (
    export_sentence_transformers,
    open_sentence_transformer,
)
from subspace.model import Model, Projection, QuerySide
from subspace.model.class_nearness import ClassNearness
from subspace.model.export.library_modules import library_suffices
from subspace.model.export.selection import Selection
from subspace.model.export.sentence_transformers import TOLERANCE
from subspace.model.export.subspace_modules import Blocks
from subspace.retrieval import Index

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

texts, jobs, coded, output = json.loads(sys.argv[1])
found, models = {}, {}
for folder in coded:
    try:
        SentenceTransformer(folder, device="cpu")
    except ValueError as error:
        assert "trust_remote_code=True" in str(error)
    else:
        raise SystemExit(f"{folder} holds no code")
    models[folder] = SentenceTransformer(folder, device="cpu", trust_remote_code=True)
    models[folder].save(folder + " again")
for name, (folder, method, options) in jobs.items():
    if folder not in models:
        models[folder] = SentenceTransformer(
            folder, device="cpu", trust_remote_code=folder.endswith(" again")
        )
    model = models[folder]
    found[name] = getattr(model, method)(texts, **options)
    found[name + "/dim"] = model.get_embedding_dimension()
    found[name + "/similarity"] = model.similarity(found[name], found[name]).numpy()
np.savez(output, **found)
"""


def make(encoder: Encoder, *, queries: bool = False, near: bool = False, seed: int = 0) -> Model:
    """Random blocks; of pairs, the first row of each is a constant, as trained ones have it.

    Queries of the style prefer their own classes if they are `near`.
    """
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
        default_weights={"topic": 1.0, "style": 0.0, "complexity": 0.0},
        score_spreads={"topic": 0.1, "style": 0.2, "complexity": 0.4},
        nearness={"style": make_nearness(rng)} if near else {},
    )


def make_nearness(rng: np.random.Generator) -> ClassNearness:
    weight, bias, mean = (rng.normal(size=n).astype(np.float32) for n in ((3, 8), 3, 3))
    return ClassNearness(weight, bias, mean, sharpness=2.0, cosine=0.5, classes=0.8)


@pytest.fixture(scope="module")
def encoders(tiny_qwen) -> dict[str, Encoder]:
    qwen = EncoderSpec(model=str(tiny_qwen), document_prompt="Text: ", max_length=64)
    return {
        "minilm": Encoder(EncoderSpec(model="minilm")),
        "qwen": Encoder(qwen),
        "layers of minilm": Encoder(EncoderSpec(model="minilm", layers=(0, 1, 3, 6))),
        # Early layers are pooled without the prompt; the last one is not the last part.
        "layers of qwen": Encoder(replace(qwen, layers=(2, 0, 1))),
        "early layer": Encoder(replace(qwen, layers=(1,), early_pooling="cls")),
        "mean of qwen": Encoder(replace(qwen, pooling="mean")),
        "max of qwen": Encoder(replace(qwen, pooling="max")),
    }


# Encoder, what its model has, what is chosen.
EXPORTS: dict[str, tuple[str, dict, dict]] = {
    "whole": ("minilm", {}, {}),
    "weighted": (
        "mean of qwen",
        {},
        {"weights": {"topic": 3.0, "style": 1.0}, "dims": {"topic": 16}},
    ),
    "one block": ("mean of qwen", {}, {"weights": {"style": 1.0}}),
    "qwen": ("qwen", {"queries": True}, {}),
    "one of qwen": ("qwen", {"queries": True}, {"weights": {"topic": 1.0}}),
}
# The same for what the library's modules cannot express.
CODED: dict[str, tuple[str, dict, dict]] = {
    "layers of minilm": ("layers of minilm", {}, {}),
    "layers of qwen": ("layers of qwen", {"queries": True}, {}),
    "one of the layers": ("layers of qwen", {}, {"weights": {"style": 1.0}}),
    "weighted layers": ("layers of qwen", {}, EXPORTS["weighted"][2]),
    "early layer": ("early layer", {}, {"dims": {"style": 3}}),
    "several of max": ("max of qwen", {}, {}),
    "near classes": ("qwen", {"queries": True, "near": True}, {}),
}
WEIGHTS = {"topic": 1.0, "style": 0.5}


@pytest.fixture(scope="module")
def folders(encoders, tmp_path_factory) -> Path:
    """All exports, each in a folder of its name."""
    place = tmp_path_factory.mktemp("exports")
    for name, (encoder, parts, options) in {**EXPORTS, **CODED}.items():
        model = make(encoders[encoder], **parts)
        exported = export_sentence_transformers(model, place / name, **options)
        assert exported.difference <= TOLERANCE
        assert exported.needs_code == (name in CODED)
    return place


@pytest.fixture(scope="module")
def found(folders) -> dict[str, np.ndarray]:
    """What a process without this package reads from each export, each way."""
    place, jobs = folders, {}
    for name in [*EXPORTS, *CODED]:
        for method in ("encode", "encode_document", "encode_query"):
            jobs[f"{name}/{method}"] = (str(place / name), method, {})
    for name in CODED:
        jobs[f"{name}/again"] = (f"{place / name} again", "encode_query", {})
    for block in WIDTHS:
        jobs[f"whole/{block}"] = (str(place / "whole"), "encode", {"task": block})
        for name in ("qwen", "layers of qwen"):
            jobs[f"{name}/{block}"] = (str(place / name), "encode", {"task": block})
            options = {"task": f"{block}-query", "prompt_name": "query"}
            jobs[f"{name}/{block}-query"] = (str(place / name), "encode", options)
    for name, options in {"weights": {"weights": WEIGHTS}, "cut": {"truncate_dim": 32}}.items():
        for coded in ("layers of minilm", "near classes"):
            jobs[f"{coded}/{name}"] = (str(place / coded), "encode_query", options)
    coded = [str(place / name) for name in CODED]
    result = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, json.dumps([TEXTS, jobs, coded, str(place / "f.npz")])],
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "HF_MODULES_CACHE": str(place / "code")},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    with np.load(place / "f.npz") as file:
        return dict(file)


def wanted(encoders, name: str, *, queries: bool) -> np.ndarray:
    encoder, parts, options = {**EXPORTS, **CODED}[name]
    model = make(encoders[encoder], **parts)
    selection = Selection.make(model.projection, nearness=model.nearness, **options)
    x = encoders[encoder].encode(TEXTS, kind="query" if queries else "document")
    return selection(x, queries=queries)


@pytest.mark.parametrize("name", [*EXPORTS, *CODED])
def test_vectors_of_documents_and_queries_are_this_packages(name, found, encoders):
    documents, queries = (wanted(encoders, name, queries=side) for side in (False, True))
    for method in ("encode", "encode_document"):
        np.testing.assert_allclose(found[f"{name}/{method}"], documents, atol=1e-5)
    np.testing.assert_allclose(found[f"{name}/encode_query"], queries, atol=1e-5)
    assert found[f"{name}/encode/dim"] == documents.shape[1]


@pytest.mark.parametrize("name", CODED)
def test_a_folder_with_code_that_the_library_saved_again_gives_the_same(name, found):
    np.testing.assert_array_equal(found[f"{name}/again"], found[f"{name}/encode_query"])


def test_a_model_of_all_blocks_is_what_the_models_own_methods_give(found, encoders):
    model = make(encoders["qwen"], queries=True, near=True)
    documents, queries = model.encode_document(TEXTS), model.encode_query(TEXTS)
    near = model.near_classes(queries.array)
    np.testing.assert_allclose(found["near classes/encode"], documents.array, atol=1e-5)
    np.testing.assert_allclose(found["near classes/encode_query"], near, atol=1e-5)
    assert np.abs(near - queries.array).max() > 0.1


@pytest.mark.parametrize("name", ["layers of minilm", "near classes"])
def test_weights_of_a_query_give_the_scores_of_an_index(name, found, encoders, tmp_path):
    encoder, parts, _ = CODED[name]
    model = make(encoders[encoder], **parts)
    records = [Record(id=str(at), text=text) for at, text in enumerate(TEXTS)]
    with Index.create(tmp_path / "index", model) as index:  # blocks are not centred on the texts
        index.add(records)
        hits = {hit.id: hit.score for hit in index.search(TEXTS[1], weights=WEIGHTS, k=len(TEXTS))}
    scores = found[f"{name}/encode"] @ found[f"{name}/weights"][1]
    np.testing.assert_allclose(scores, [hits[record.id] for record in records], atol=1e-5)


@pytest.mark.parametrize("name", ["layers of minilm", "near classes"])
def test_dimensions_cut_where_a_block_ends_leave_the_first_blocks(name, found):
    assert found[f"{name}/cut"].shape[1] == 32
    np.testing.assert_array_equal(found[f"{name}/cut"], found[f"{name}/encode_query"][:, :32])


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
    for name in ("qwen", "layers of qwen"):
        queries = BlockLayout.from_widths(WIDTHS).split(wanted(encoders, name, queries=True))
        for block, part in queries.items():
            np.testing.assert_allclose(found[f"{name}/{block}-query"], part, atol=1e-5)
            assert np.abs(found[f"{name}/{block}"] - part).max() > 0.1


def test_the_librarys_similarity_is_the_mean_of_the_blocks_cosines(found):
    parts = BlockLayout.from_widths(WIDTHS).split(found["whole/encode"])
    mean = sum(part @ part.T for part in parts.values()) / len(parts)
    np.testing.assert_allclose(found["whole/encode/similarity"], mean, atol=1e-5)


def test_where_this_package_is_its_own_code_opens_a_folder(folders, found, tmp_path):
    """What lies in the folder is not run, and a copy that is saved asks for this package."""
    name = "layers of qwen"
    (tmp_path / "out").mkdir()
    for path in (folders / name).rglob("*"):
        if path.is_file() and path.suffix != ".py":
            copy = tmp_path / "out" / path.relative_to(folders / name)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    model = open_sentence_transformer(tmp_path / "out", device="cpu")
    model.save(str(tmp_path / "again"))
    again = open_sentence_transformer(tmp_path / "again", device="cpu")
    for one in (model, again):
        np.testing.assert_array_equal(one.encode_query(TEXTS), found[f"{name}/encode_query"])
        np.testing.assert_array_equal(one.encode(TEXTS), found[f"{name}/encode"])
    trusted = SentenceTransformer(str(tmp_path / "again"), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(trusted.encode(TEXTS), found[f"{name}/encode"])
    assert type(trusted[1]).__module__ == "subspace.model.export.subspace_modules"


def test_the_side_on_which_texts_are_padded_does_not_matter(folders, found):
    """Tokenizers of large decoders pad on the left."""
    for name in ("layers of qwen", "early layer", "several of max"):
        model = open_sentence_transformer(folders / name, device="cpu")
        model[0].tokenizer.padding_side = "left"
        assert not model.preprocess(TEXTS)["attention_mask"][0, 0]
        np.testing.assert_allclose(model.encode(TEXTS), found[f"{name}/encode"], atol=1e-5)


def test_a_folder_without_code_is_opened_as_the_library_does(folders, found):
    model = open_sentence_transformer(folders / "qwen", device="cpu")
    np.testing.assert_array_equal(model.encode(TEXTS), found["qwen/encode"])


def test_a_folder_of_something_else_is_refused(folders, tmp_path):
    with pytest.raises(CheckpointError, match=r"no folder of sentence-transformers: modules.json"):
        open_sentence_transformer(tmp_path)
    for damaged in ("{}", '["type"]', '[{"type": "a.B"}]'):
        (tmp_path / "modules.json").write_text(damaged)
        with pytest.raises(CheckpointError, match="is damaged: it must list types and paths"):
            open_sentence_transformer(tmp_path)
    for name in ("Later", "torch"):  # a later version's class; a module that can load, too
        kind = f"subspace_modules.{name}"
        (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": kind}]))
        with pytest.raises(CheckpointError, match=f"no module '{re.escape(kind)}' in this version"):
            open_sentence_transformer(tmp_path)
    settings = json.loads((folders / "near classes" / "1_Blocks" / "config.json").read_text())
    with pytest.raises(ValueError, match="of format 2, and this code reads 1"):
        Blocks(**{**settings, "format_version": 2})


def test_a_wrong_task_or_wrong_weights_of_a_query_are_refused(folders):
    model = open_sentence_transformer(folders / "layers of qwen", device="cpu")
    for method, options, message in (
        ("encode", {"task": "colour"}, "no task 'colour': it is document, query, topic, topic-q"),
        ("encode_document", {"weights": WEIGHTS}, "weights go with queries"),
        ("encode_query", {"weights": {"colour": 1}}, "no block 'colour': the blocks are topic"),
        ("encode_query", {"weights": {"topic": -1}}, "must be finite and 0 or more"),
        ("encode_query", {"weights": {"topic": float("nan")}}, "must be finite and 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(TEXTS, **options)
    folded = open_sentence_transformer(folders / "weighted layers", device="cpu")
    with pytest.raises(ValueError, match="folded into these vectors"):
        folded.encode_query(TEXTS, weights=WEIGHTS)


def test_a_folder_with_code_says_so_in_its_card(folders):
    card = (folders / "layers of qwen" / "README.md").read_text()
    assert '("layers of qwen", trust_remote_code=True)' in card
    assert "subspace_modules.py" in card
    code = (folders / "layers of qwen" / "subspace_modules.py").read_text()
    assert "import subspace" not in code
    assert "from subspace" not in code


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


def test_half_precision_is_refused_with_what_to_do(tiny_qwen, tmp_path):
    model = make(Encoder(EncoderSpec(model=str(tiny_qwen), dtype="bfloat16")))
    with pytest.raises(ConfigError, match=r"train with `data\.encoder\.dtype: float32`"):
        export_sentence_transformers(model, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_block_whose_classes_were_learned_is_not_cut(encoders, tmp_path):
    model = make(encoders["qwen"], near=True)
    with pytest.raises(ConfigError, match="need all of its 8 dimensions"):
        export_sentence_transformers(model, tmp_path / "out", dims={"style": 4})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_of_other_poolings_one_block_needs_no_code(pooling, tiny_qwen, tmp_path):
    model = make(Encoder(EncoderSpec(model=str(tiny_qwen), pooling=pooling)))
    alone = export_sentence_transformers(model, tmp_path / "out", weights={"topic": 1})
    assert alone.widths == {"topic": 24}
    assert not alone.needs_code


@pytest.mark.parametrize("name", ["query", "a.b", "keys", "two words"])
def test_blocks_whose_names_cannot_be_tasks_of_the_library_take_code(name, encoders):
    """The library keeps its tasks as attributes of a module."""
    layout = BlockLayout((name, "style", "complexity"), tuple(WIDTHS.values()))
    renamed = replace(make(encoders["qwen"]).projection, layout=layout)
    assert not library_suffices(Selection.make(renamed), pooling="lasttoken")
    alone = Selection.make(renamed, weights={name: 1})
    assert library_suffices(alone, pooling="lasttoken")


def test_a_block_of_any_name_is_exported(encoders, tmp_path):
    model = make(encoders["qwen"])
    layout = BlockLayout(("query", "a/b.c", "complexity"), tuple(WIDTHS.values()))
    renamed = replace(model.projection, layout=layout)
    model = replace(model, projection=renamed, default_weights={}, score_spreads={})
    export_sentence_transformers(model, tmp_path / "out")
    opened = open_sentence_transformer(tmp_path / "out", device="cpu")
    queries = model.encode_query(TEXTS)
    np.testing.assert_allclose(opened.encode_query(TEXTS), queries.array, atol=1e-5)
    part = opened.encode(TEXTS, task="a/b.c", prompt_name="query")
    np.testing.assert_allclose(part, queries["a/b.c"], atol=1e-5)


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
