"""The wheel holds what users need, is the same whoever builds it, and installs as pip does it."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, folder=tmp_path_factory.mktemp("wheel"))


def build(sources: Path, *, folder: Path) -> Path:
    """Builds a wheel as `pip wheel` does, by the backend that pyproject.toml names."""
    (built,) = WheelBuilder(str(sources)).build(directory=str(folder), versions=["standard"])
    return Path(built)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment that pip installed the wheel into, alone."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    command = [
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--no-compile",
        "-q",
        wheel,
    ]
    subprocess.run([sys.executable, "-m", "pip", *command], check=True, capture_output=True)
    (site,) = folder.glob("lib/python*/site-packages")
    line = 'import os, sys; sys.path += filter(None, [os.environ.get("DEPENDENCIES")])\n'
    (site / "dependencies.pth").write_text(line, encoding="utf-8")
    return python


def run_fresh(*command: str | Path, cwd: Path) -> str:
    """Runs a program of that environment; what the package needs is taken from this one."""
    here = str(Path(np.__file__).parents[1])
    env = {"PATH": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DEPENDENCIES": here}
    result = subprocess.run(command, cwd=cwd, env=env, text=True, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_its_name_is_free_and_the_import_stays(wheel):
    assert wheel.name.startswith("subspace_embeddings-")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {"subspace/__init__.py", "subspace/py.typed"} <= names
    for model in ("minilm", "minilm-last"):
        for name in ("config.json", "model.safetensors", "README.md", "sbom.json"):
            assert f"subspace/checkpoints/{model}/{name}" in names
    assert "subspace/fitting/weak/lexicon.tsv" in names


def test_a_wheel_built_from_the_sdist_of_another_folder_and_day_has_the_same_bytes(wheel, tmp_path):
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path / "sdist"))
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path / "sources", filter="data")
    (sources,) = (tmp_path / "sources").iterdir()
    for path in sources.rglob("*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    built = build(sources, folder=tmp_path / "again")
    assert built.read_bytes() == wheel.read_bytes()
    with zipfile.ZipFile(built) as file:  # no file's own date is in it
        assert len({info.date_time for info in file.infolist()}) == 1


def test_an_installed_package_loads_the_reference_model_from_any_folder(installed, tmp_path):
    code = (
        "import subspace; print(subspace.__file__); model = subspace.load('minilm'); "
        "print(model.folder, model.encode_query(['a text'])['style'].shape)"
    )
    out = run_fresh(installed, "-c", code, cwd=tmp_path)
    package = next(installed.parents[1].glob("lib/python*/site-packages")) / "subspace"
    assert Path(out.splitlines()[0]).parent == package
    assert str(package / "checkpoints" / "minilm") in out
    assert "(1, 256)" in out


def test_pip_installs_the_command_and_the_licence(installed, tmp_path):
    out = run_fresh(installed.with_name("subspace"), "presets", cwd=tmp_path)
    assert "balanced" in out
    code = (
        "from importlib.metadata import files, version; print(version('subspace-embeddings'), "
        "[file.name for file in files('subspace-embeddings') if 'licenses' in file.parts])"
    )
    assert "['LICENSE']" in run_fresh(installed, "-c", code, cwd=tmp_path)


def check_types(installed: Path, *, cache: Path) -> str:
    """What a type checker says of a program that uses the installed package."""
    code = "import subspace\nreveal_type(subspace.load)\nsubspace.load(3)\n"
    options = ["--strict", "--cache-dir", str(cache), "--python-executable", str(installed)]
    return subprocess.run(
        [sys.executable, "-m", "mypy", *options, "-c", code],
        cwd=installed.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        text=True,
        capture_output=True,
        check=False,
    ).stdout


def test_a_type_checker_sees_the_types_of_an_installed_package(installed, tmp_path):
    (marker,) = installed.parents[1].glob("lib/python*/site-packages/subspace/py.typed")
    hidden = marker.rename(tmp_path / "py.typed")
    out = check_types(installed, cache=tmp_path / "cache")
    hidden.rename(marker)
    assert "py.typed marker" in out
    assert "Model" not in out

    out = check_types(installed, cache=tmp_path / "cache")
    assert "-> subspace.model.model.Model" in out
    assert 'error: Argument 1 to "load"' in out
    assert "Found 1 error" in out
