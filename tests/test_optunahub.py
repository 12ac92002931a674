"""The package folder for OptunaHub: loaded as its users do, but from the folder itself."""

from __future__ import annotations

import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
import optunahub
import yaml

import optuna_propulate


if TYPE_CHECKING:
    import pytest


REGISTRY = Path(__file__).parents[1] / "hub" / "package"
FOLDER = REGISTRY / "samplers" / "propulate"


def load(package: str) -> Any:
    return optunahub.load_local_module(package, registry_root=str(REGISTRY))


def test_the_sampler_is_ours() -> None:
    module = load("samplers/propulate")
    assert module.PropulateSampler is optuna_propulate.PropulateSampler
    study = optuna.create_study(sampler=module.PropulateSampler(seed=1))
    study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2, n_trials=60)
    assert study.best_value < 0.1


def test_its_example_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(optunahub, "load_module", load)
    runpy.run_path(str(FOLDER / "example.py"), run_name="__main__")
    value, _, params = capsys.readouterr().out.partition(" ")
    assert float(value) < 1.0
    assert "'x'" in params


def test_its_front_matter_has_what_the_registry_asks_for() -> None:
    _, front, body = (FOLDER / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert set(matter) == {"author", "title", "description", "tags", "optuna_versions", "license"}
    assert "sampler" in matter["tags"]
    assert optuna.__version__ in [str(version) for version in matter["optuna_versions"]]
    for section in ("Abstract", "APIs", "Installation", "Example"):
        assert f"\n## {section}\n" in body
    pictures = re.findall(r"!\[[^]]+\]\((\S+)\)", body)
    assert len(pictures) == 2
    assert all((FOLDER / picture).is_file() for picture in pictures)


def test_its_readme_lists_every_argument() -> None:
    body = (FOLDER / "README.md").read_text()
    for name in inspect.signature(optuna_propulate.PropulateSampler).parameters:
        assert f"  - `{name}`: " in body


def test_its_own_tests_pass() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "package/samplers"],
        cwd=REGISTRY.parent, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout
