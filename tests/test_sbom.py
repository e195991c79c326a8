"""The bills of materials of the shipped models say what their cards say."""

import importlib.util
import json
import re

import pytest
from command_line import ROOT

from subspace.files import sha256_file

CHECKPOINTS = ROOT / "checkpoints"
MODELS = ("minilm", "minilm-last")


@pytest.fixture(scope="module")
def script():
    path = CHECKPOINTS / "make_sbom.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=MODELS)
def model(request) -> str:
    return request.param


@pytest.fixture
def bill(model) -> dict:
    return json.loads((CHECKPOINTS / model / "sbom.json").read_text(encoding="utf-8"))


def test_it_is_what_the_script_makes_of_the_card(script, model):
    written = (CHECKPOINTS / model / "sbom.json").read_text(encoding="utf-8")
    assert written == script.render(model), "run: python checkpoints/make_sbom.py"


def test_every_corpus_of_the_card_is_in_it_with_licence_attribution_and_hash(model, bill):
    card = (CHECKPOINTS / model / "README.md").read_text(encoding="utf-8")
    table = card.split("## Data", 1)[1].split("\n\n")[1].splitlines()[2:]
    rows = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table]
    corpora = {part["name"]: part for part in bill["components"] if part["type"] == "data"}
    assert len(rows) > 10
    assert {row[0] for row in rows} == set(corpora)
    for name, licence, attribution, short in rows:
        part = corpora[name]
        assert part["hashes"][0]["content"].startswith(short)
        assert part["authors"] == [{"name": attribution}]
        named = [one["license"].get("id") or one["license"]["name"] for one in part["licenses"]]
        plain = [re.sub(r"[ -]", "", text).removesuffix("1.0") for text in named]
        assert plain == [re.sub(r"[ -]", "", one).removesuffix("1.0") for one in licence.split(";")]


def test_it_is_of_the_tensors_that_lie_beside_it(model, bill):
    component = bill["metadata"]["component"]
    tensors = sha256_file(CHECKPOINTS / model / "model.safetensors")
    assert component["hashes"] == [{"alg": "SHA-256", "content": tensors}]
    assert component["licenses"] == [{"license": {"id": "CC-BY-SA-4.0"}}]


def test_it_has_what_the_schema_of_cyclonedx_asks_for(bill):
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])
    parts = [bill["metadata"]["component"], *bill["components"]]
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)
    assert all(part["type"] in ("data", "machine-learning-model") for part in parts)
    hashes = [one["content"] for part in parts for one in part["hashes"]]
    assert all(re.fullmatch(r"[0-9a-f]{64}", content) for content in hashes)
    assert [one["ref"] for one in bill["dependencies"]] == references
    assert bill["dependencies"][0]["dependsOn"] == references[1:]


def test_a_card_that_names_other_data_is_refused(script, model, tmp_path, monkeypatch):
    for name in ("README.md", "config.json"):
        text = (CHECKPOINTS / model / name).read_text(encoding="utf-8")
        (tmp_path / model).mkdir(exist_ok=True)
        (tmp_path / model / name).write_text(
            text.replace("| snips |", "| snaps |"), encoding="utf-8"
        )
    monkeypatch.setattr(script, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="do not name the same data"):
        script.make_sbom(model)
