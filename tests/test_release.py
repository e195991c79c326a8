"""What a release needs besides its wheel: bounds, a changelog by version, CI of scripts."""

import os
import re
import tomllib

import pytest
import yaml
from command_line import ROOT
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def every_requirement() -> list[Requirement]:
    named = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    return [one for one in map(Requirement, named) if one.name != PROJECT["name"]]


def test_every_dependency_has_a_lower_bound_and_no_extra_asks_for_another_one():
    bounds: dict[str, set[str]] = {}
    for requirement in every_requirement():
        lower = [one.version for one in requirement.specifier if one.operator == ">="]
        assert len(lower) == 1, str(requirement)
        bounds.setdefault(requirement.name, set()).update(lower)
    assert len(bounds) > 40
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def test_the_tests_run_with_every_extra():
    (own,) = [one for one in map(Requirement, EXTRAS["dev"]) if one.name == PROJECT["name"]]
    assert own.extras == set(EXTRAS) - {"dev"}


def test_ci_runs_on_every_python_that_the_package_names():
    named = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if ":: 3." in one}
    assert set(WORKFLOW["jobs"]["newest"]["strategy"]["matrix"]["python"]) == named
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert lowest == min(named, key=Version)
    assert f"--python-version {lowest} " in (ROOT / ".ci/lowest").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [step["run"] for step in STEPS if "run" in step])
def test_ci_calls_what_runs_on_any_machine(command):
    program, *targets = command.split()
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    else:
        assert program.startswith(".ci/")
        assert os.access(ROOT / program, os.X_OK)


def test_the_changelog_has_a_heading_for_every_version_newest_first():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *released = re.findall(r"^## (.*)$", changelog, re.MULTILINE)
    assert first == "Unreleased"
    versions = [re.fullmatch(r"(\d+\.\d+\.\d+) \((\d{4}-\d{2}-\d{2})\)", one) for one in released]
    assert all(versions), released
    order = [Version(one[1]) for one in versions]
    assert order == sorted(set(order), reverse=True)
    assert not order or order[0] <= Version(PROJECT["version"])
