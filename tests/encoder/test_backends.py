"""Other runtimes give the vectors of torch, or are refused; reading needs no torch."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import subspace
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.backends import (
    conversion,
    converted,
    openvino_runtime,
    prepare,
    runtimes,
)
from subspace.encoder.backends.sample_texts import SAMPLES
from subspace.errors import EncoderError

ROOT = Path(__file__).resolve().parents[2]
# Cut at 256 tokens and at half of that, nearly empty, emoji, from right to left, in many lengths.
TEXTS = [
    "The ferry was late again, and nobody on the pier knew why. " * 40,
    "a b c " * 60,
    ".",
    "\u200b \u00ad x",
    "\U0001f469\u200d\U0001f680 \U0001f642\U0001f642\U0001f3fd \u2764\ufe0f",
    "\u0647\u0644 \u064a\u0648\u062c\u062f \u0645\u0637\u0639\u0645 \u0642\u0631\u064a\u0628\u061f",
    "\u05d0\u05d9\u05e4\u05d4 \u05d4\u05ea\u05d7\u05e0\u05d4? (the station)",
    *(f"text number {n} " * n for n in range(1, 16)),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Iterator[Path]:
    """A cache of converted models of its own, and backends that are chosen as by default."""
    folder = tmp_path_factory.mktemp("assets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(folder))
        patch.delenv(runtimes.ENVIRONMENT_VARIABLE)
        yield folder


@pytest.fixture(scope="module")
def minilm(cache) -> Encoder:
    """The encoder of the model that comes with the package, converted for OpenVINO."""
    encoder = subspace.load("minilm").open_encoder()
    assert encoder.backend == "torch"
    assert encoder.prepare() == "openvino"
    return encoder


def smallest(found: np.ndarray, wanted: np.ndarray, encoder: Encoder) -> float:
    layers = len(encoder.fingerprint.layers)
    return converted.smallest_cosine(found, wanted, layers=layers)


def in_torch(encoder: Encoder) -> Encoder:
    return Encoder(replace(encoder.spec, backend="torch"))


def test_openvino_gives_the_vectors_of_torch(minilm):
    wanted = in_torch(minilm).encode(TEXTS)
    assert smallest(minilm.encode(TEXTS), wanted, minilm) >= 0.9999
    assert minilm.truncated  # the comparison had texts that are cut
    assert smallest(np.roll(wanted, 1, axis=0), wanted, minilm) < 0.9


def test_every_text_alone_has_the_vector_that_it_has_among_others(minilm, monkeypatch):
    together = minilm.encode(TEXTS)
    alone = np.concatenate([minilm.encode([text]) for text in TEXTS])
    assert smallest(alone, together, minilm) >= 0.99999
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # several batches at a time
    assert smallest(minilm.encode(TEXTS), together, minilm) >= 0.99999


SPECS = {
    "last token, own mean of early layers": {"layers": (0, 1, -1)},
    "mean of all layers, with a prompt": {
        "layers": (-1, 0),
        "pooling": "mean",
        "document_prompt": "Text: ",
    },
    "maximum, first token of an early layer": {
        "layers": (1, 2),
        "pooling": "max",
        "early_pooling": "cls",
    },
}


# An export to ONNX takes seconds, and the module is the same: one is enough.
@pytest.mark.parametrize(
    ("runtime", "name"), [*(("openvino", name) for name in SPECS), ("onnx", next(iter(SPECS)))]
)
def test_all_poolings_are_converted(cache, tiny_qwen, runtime, name):
    """A causal model with a prompt for queries."""
    spec = EncoderSpec(model=str(tiny_qwen), backend=runtime, **SPECS[name])
    encoder = Encoder(spec)
    for kind in ("document", "query"):
        found = encoder.encode(TEXTS, kind=kind)
        assert smallest(found, in_torch(encoder).encode(TEXTS, kind=kind), encoder) >= 0.9999
    assert encoder.backend == runtime


def test_bfloat16_agrees_as_far_as_bfloat16_does(cache, tiny_qwen):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), dtype="bfloat16", backend="openvino"))
    found = encoder.encode(TEXTS)
    assert smallest(found, in_torch(encoder).encode(TEXTS), encoder) >= 0.999


SEARCH = """
import sys
import subspace
from subspace.cli import main

assert main(sys.argv[1:]) == 0
heavy = {"torch", "transformers", "openvino_telemetry", "openvino.tools.ovc"} & set(sys.modules)
assert not heavy, heavy
assert "openvino" in sys.modules
"""


def test_a_search_imports_neither_torch_nor_what_reports_home(minilm, cache, tmp_path):
    records = [subspace.Record(id=str(n), text=text) for n, text in enumerate(SAMPLES)]
    with subspace.Index.create(tmp_path / "index", subspace.load("minilm"), records) as index:
        wanted = [hit.id for hit in index.search("a museum that opens late", k=3)]
    where = {"HF_ASSETS_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}
    kept = {n: v for n, v in os.environ.items() if n != runtimes.ENVIRONMENT_VARIABLE}
    options = ["--checkpoint", "minilm", "--index", str(tmp_path / "index"), "-k", "3", "--json"]
    found = subprocess.run(
        [sys.executable, "-c", SEARCH, "search", "--query", "a museum that opens late", *options],
        env={**kept, **where},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert [hit["id"] for hit in json.loads(found.stdout)["hits"]] == wanted
    assert not (tmp_path / "intel").exists()  # where OpenVINO would keep whom it reports about


def test_onnx_runtime_is_told_not_to_report_home(tmp_path):
    """It keeps whom it reports about in the home, unless a variable says that it is tested."""
    code = "from subspace.encoder.backends import onnx_runtime as o; o._import().SessionOptions()"
    bare = {"HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=bare, check=True)
    assert not list(tmp_path.rglob("*"))


def test_few_texts_take_the_converted_model_where_torch_is_faster_in_bulk(minilm):
    encoder = subspace.load("minilm").open_encoder()
    slow = dict(minilm._converted.manifest, fast_in_bulk=False)
    encoder._converted = converted.ConvertedModel(
        "openvino", folder=minilm._converted.folder, manifest=slow, required=False
    )
    encoder.encode(TEXTS[2:4])
    assert "_torch" not in vars(encoder)
    encoder.encode(TEXTS)
    assert "_torch" in vars(encoder)


def test_a_damaged_model_is_told_and_torch_used_instead(cache, tiny_qwen, caplog):
    spec = EncoderSpec(model=str(tiny_qwen), max_length=40)
    made = Encoder(spec)
    assert made.prepare() == "openvino"
    folder, wanted = made._converted.folder, made.encode(["a fox"])
    table = np.load(folder / converted.TABLE)
    np.save(folder / converted.TABLE, table[::-1].copy())
    found = Encoder(spec).encode(["a fox"])
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert "gives other vectors than when it was converted" in caplog.text
    assert not folder.exists()  # the next index converts it again


@pytest.mark.parametrize("part", [converted.TOKENIZER, "model.blob"])
def test_a_damaged_file_of_the_right_size_is_told_too(cache, tiny_qwen, caplog, part):
    spec = EncoderSpec(model=str(tiny_qwen), max_length=46)
    made = Encoder(spec)
    made.prepare()
    file, wanted = made._converted.folder / part, made.encode(["a fox"])
    sound = file.read_bytes()
    file.write_bytes(b"\0" * len(sound))
    np.testing.assert_allclose(Encoder(spec).encode(["a fox"]), wanted, atol=1e-5)
    assert "torch is used instead, and the next index converts it again" in caplog.text
    assert not file.exists()
    Encoder(spec).prepare()
    file.write_bytes(b"\0" * len(sound))
    named = Encoder(replace(spec, backend="openvino"))
    with pytest.raises(EncoderError, match="it is converted again when it is used next"):
        named.encode(["a fox"])
    np.testing.assert_allclose(named.encode(["a fox"]), wanted, atol=1e-5)
    assert named.backend == "openvino"


def test_a_cache_that_is_emptied_meanwhile_changes_nothing(cache, tiny_qwen, monkeypatch):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=47))
    encoder.prepare()
    wanted = encoder.encode(TEXTS[:1])
    shutil.rmtree(encoder._converted.folder)
    np.testing.assert_array_equal(encoder.encode(TEXTS[:1]), wanted)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # what is not open yet
    many = encoder.encode(TEXTS)
    assert smallest(many, in_torch(encoder).encode(TEXTS), encoder) >= 0.9999
    assert encoder.backend == "openvino"


def test_what_another_process_converted_meanwhile_stays_in_its_place(cache, tiny_qwen, monkeypatch):
    """That process may be about to open it."""
    spec, write = EncoderSpec(model=str(tiny_qwen), max_length=48), conversion.write_model
    other = Encoder(spec)

    places: list[int] = []

    def write_late(*files, **options):
        monkeypatch.setattr(conversion, "write_model", write)
        other.prepare()
        places.append(other._converted.folder.stat().st_ino)
        return write(*files, **options)

    encoder = Encoder(spec)
    monkeypatch.setattr(conversion, "write_model", write_late)
    assert encoder.prepare() == other.backend == "openvino"
    assert encoder._converted.folder.stat().st_ino == places[0]
    assert not list(cache.rglob("*.partial"))


IMPORT_AT_ONCE = """
import threading
import time
from subspace.encoder.backends.openvino_runtime import _import_openvino

found = []

def open_later(n):
    time.sleep(n / 100)
    found.append(_import_openvino().Core)

threads = [threading.Thread(target=open_later, args=(n,)) for n in range(20)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(found) == 20
"""


def test_threads_that_come_while_the_runtime_is_imported_wait_for_it():
    found = subprocess.run(
        [sys.executable, "-c", IMPORT_AT_ONCE], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]


def test_a_configuration_that_leaves_out_its_padding_is_read_by_transformers(
    cache, tiny_qwen, tmp_path
):
    """Their default counts: positions of a RoBERTa begin behind the padding token."""
    shutil.copytree(tiny_qwen, tmp_path / "model")
    config = {
        "model_type": "roberta",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "max_position_embeddings": 130,
    }
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    spec = EncoderSpec(model=str(tmp_path / "model"), pooling="mean")
    assert Encoder(spec).fingerprint.max_length == 128


def test_a_file_of_another_size_is_not_whole(cache, minilm, tmp_path, monkeypatch):
    for file in cache.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(cache)
            target.parent.mkdir(exist_ok=True, parents=True)
            target.symlink_to(file)
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    assert Encoder(minilm.spec).backend == "openvino"
    table = tmp_path / minilm._converted.folder.relative_to(cache) / converted.TABLE
    table.unlink()
    table.write_bytes(b"half")
    assert Encoder(minilm.spec).backend == "torch"


def test_a_model_that_disagrees_is_refused_once_and_told(cache, tiny_qwen, monkeypatch, caplog):
    monkeypatch.setitem(conversion.AGREEMENT, "float32", 1.01)
    monkeypatch.setattr(runtimes, "BACKENDS", ("auto", "torch", "openvino"))
    spec = EncoderSpec(model=str(tiny_qwen), max_length=41)
    with caplog.at_level("INFO", logger="subspace"):
        assert Encoder(spec).prepare() == "torch"
    assert "its vectors are not those of torch: the smallest cosine is" in caplog.text
    monkeypatch.setattr(conversion, "write_model", lambda *_, **__: pytest.fail("tried again"))
    assert Encoder(spec).prepare() == "torch"
    monkeypatch.undo()
    (refused,) = [one for one in cache.rglob("manifest.json") if "refused" in one.read_text()]
    assert [one.name for one in refused.parent.iterdir()] == ["manifest.json"]
    shutil.rmtree(refused.parent)


def test_a_model_that_gives_no_numbers_is_refused(cache, tiny_qwen, monkeypatch, caplog):
    look_up = conversion.look_up
    monkeypatch.setattr(
        conversion, "look_up", lambda *model, rows: look_up(*model, rows=rows) * np.nan
    )
    monkeypatch.setattr(runtimes, "BACKENDS", ("auto", "torch", "openvino"))
    with caplog.at_level("INFO", logger="subspace"):
        assert Encoder(EncoderSpec(model=str(tiny_qwen), max_length=49)).prepare() == "torch"
    assert "the smallest cosine is nan" in caplog.text


def test_a_tokenizer_that_cuts_elsewhere_is_refused(cache, tiny_qwen, monkeypatch, caplog):
    save = conversion.save
    monkeypatch.setattr(
        conversion, "save", lambda *files: save(*files) | {"truncation_side": "left"}
    )
    monkeypatch.setattr(runtimes, "BACKENDS", ("auto", "torch", "openvino"))
    with caplog.at_level("INFO", logger="subspace"):
        assert Encoder(EncoderSpec(model=str(tiny_qwen), max_length=50)).prepare() == "torch"
    assert "its tokenizer gives other tokens without transformers" in caplog.text


def test_a_runtime_that_cannot_be_imported_leaves_torch_until_it_can(
    cache, tiny_qwen, monkeypatch, caplog
):
    def fail():
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setattr(runtimes, "BACKENDS", ("auto", "torch", "openvino"))
    spec = EncoderSpec(model=str(tiny_qwen), max_length=51)
    with monkeypatch.context() as patch, caplog.at_level("INFO", logger="subspace"):
        patch.setattr(openvino_runtime, "_import_openvino", fail)
        assert Encoder(spec).prepare() == "torch"
        assert "openvino cannot be imported: libtbb.so.12" in caplog.text
        with pytest.raises(EncoderError, match="'openvino' cannot be used: openvino cannot be imp"):
            Encoder(replace(spec, backend="openvino")).prepare()
    assert Encoder(spec).prepare() == "openvino"


def test_a_runtime_that_the_environment_names_computes_a_single_text(cache, tiny_qwen, monkeypatch):
    spec = EncoderSpec(model=str(tiny_qwen), max_length=41)
    encoder = Encoder(spec)
    encoder.encode(["a fox"])
    assert encoder.backend == "torch"  # one text is no reason to convert
    monkeypatch.setenv(runtimes.ENVIRONMENT_VARIABLE, "openvino")
    encoder.encode(["a fox"])
    assert encoder.backend == "openvino"


def test_what_is_named_and_cannot_compute_is_an_error(cache, tiny_qwen, monkeypatch):
    spec = EncoderSpec(model=str(tiny_qwen), backend="openvino", max_length=42)
    with pytest.raises(EncoderError, match="must be one of auto, torch, openvino, onnx, got 'jax'"):
        Encoder(replace(spec, backend="jax"))
    with pytest.raises(EncoderError, match="computes on the cpu, not on 'cuda'"):
        Encoder(replace(spec, device="cuda"))
    monkeypatch.setitem(conversion.AGREEMENT, "float32", 1.01)
    with pytest.raises(EncoderError, match="backend 'openvino' cannot be used: its vectors"):
        Encoder(spec).encode(["a fox"])
    monkeypatch.undo()
    monkeypatch.setenv(runtimes.ENVIRONMENT_VARIABLE, "jax")
    with pytest.raises(EncoderError, match="SUBSPACE_ENCODER_BACKEND must be one of"):
        Encoder(EncoderSpec(model=str(tiny_qwen)))


@pytest.mark.parametrize(
    ("version", "said"),
    [
        (None, "openvino is not installed; run: pip install 'subspace-embeddings[openvino]'"),
        ("2025.1.0", "openvino 2025.1.0 is too old, 2026.4 or later is needed"),
    ],
)
def test_a_runtime_that_is_missing_or_too_old_is_told(cache, tiny_qwen, monkeypatch, version, said):
    installed = runtimes._version
    monkeypatch.setattr(
        runtimes, "_version", lambda name: version if name == "openvino" else installed(name)
    )
    spec = EncoderSpec(model=str(tiny_qwen), max_length=43, backend="openvino")
    with pytest.raises(EncoderError) as error:
        Encoder(spec)
    assert said in str(error.value)
    monkeypatch.setattr(runtimes, "_version", lambda _: None)
    assert Encoder(replace(spec, backend="auto")).prepare() == "torch"


def test_a_large_model_is_converted_only_when_it_is_asked_for(
    cache, tiny_qwen, monkeypatch, caplog
):
    monkeypatch.setattr(prepare, "LARGEST", 1000)
    spec = EncoderSpec(model=str(tiny_qwen), max_length=44)
    with caplog.at_level("INFO", logger="subspace"):
        assert Encoder(spec).prepare() == "torch"
    assert "converted only with backend='openvino'" in caplog.text


def test_a_cache_that_cannot_be_written_leaves_torch(cache, tiny_qwen, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "file"))
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen), max_length=45))
    assert encoder.prepare() == "torch"
    assert len(encoder.encode(["a fox"])) == 1
    with pytest.raises(EncoderError, match="cannot be written"):
        Encoder(replace(encoder.spec, backend="openvino")).prepare()
