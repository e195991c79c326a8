"""The wheel holds what users need, under a name that is free."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-q", "-w", folder]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_its_name_is_free_and_the_import_stays(wheel):
    assert wheel.name.startswith("subspace_embeddings-")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {"subspace/__init__.py", "subspace/py.typed"} <= names
    for model in ("minilm", "minilm-last"):
        for name in ("config.json", "model.safetensors", "README.md"):
            assert f"subspace/checkpoints/{model}/{name}" in names
    assert "subspace/fitting/weak/lexicon.tsv" in names


def test_an_installed_package_loads_the_reference_model_from_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = (
        "import subspace; print(subspace.__file__); model = subspace.load('minilm'); "
        "print(model.folder, model.encode_query(['a text'])['style'].shape)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "", "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert str(tmp_path / "site") in out.splitlines()[0]
    assert str(tmp_path / "site" / "subspace" / "checkpoints" / "minilm") in out
    assert "(1, 256)" in out
