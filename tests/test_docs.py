"""Every block of Python in README and documentation runs, as a newcomer would paste it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from support.servers import free_port


if TYPE_CHECKING:
    from collections.abc import Callable


ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
README = ROOT / "README.md"
NOTEBOOK = ROOT / "examples" / "notebook.ipynb"
NBCONVERT = [sys.executable, "-m", "nbconvert"]
LOADED_LATE = {"tensorboard"}  # by torch.utils.tensorboard
RANKS = re.compile(r"# mpirun -n (\d+) ")
PAGES = [page for page in [*sorted(DOCS.glob("*.md")), README] if BLOCK.search(page.read_text())]
BLOCKS = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text()))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_of_a_page_runs(block: str, tmp_path: Path, mpiexec: Callable) -> None:
    for library in imported(block):
        if find_spec(library) is None:
            missing(library)
    if ranks := RANKS.match(block):
        outcome = mpiexec(block, int(ranks[1]), timeout=270)
        status, errors = outcome.status, outcome.stderr
    else:
        process = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path, capture_output=True, text=True, timeout=270, check=False,
        )  # fmt: skip
        status, errors = process.returncode, process.stderr
    assert status == 0, errors


def imported(block: str) -> set[str]:
    """Return the top-level names of what a block imports."""
    nodes = list(ast.walk(ast.parse(block)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in [*names, *LOADED_LATE.intersection(block.split())]}


def missing(library: str) -> None:
    if os.environ.get("REQUIRE_RECIPES"):
        pytest.fail(f"This run has to have {library}, but there is none.")
    pytest.skip(f"{library} is not here: `tox run -e recipes` brings what is heavy.")


def test_the_notebook_runs(tmp_path: Path) -> None:
    for library in ("nbconvert", "ipykernel"):
        if find_spec(library) is None:
            missing(library)
    shutil.copy(NOTEBOOK, tmp_path)  # where it is, it runs
    process = subprocess.run(
        [*NBCONVERT, "--to", "notebook", "--execute", "--stdout", NOTEBOOK.name],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    shown = process.stdout
    assert "300/300" in shown  # the bar
    assert shown.count("study tune: 300 trials (300 complete)") == 1  # the summary, once
    assert "application/vnd.plotly.v1+json" in shown  # the figure


def test_the_commands_of_the_readme_run_in_their_order(tmp_path: Path, mpiexec: Callable) -> None:
    """As they stand; installing is what the environment of the tests has done."""
    pieces = re.split(r"^```", README.read_text(), flags=re.MULTILINE)
    script = next(piece for piece in pieces if 'study_name="tune"' in piece)
    commands = next(piece for piece in pieces if piece.startswith("sh\npython tune.py"))
    (tmp_path / "tune.py").write_text(script.removeprefix("python\n"))
    lines = commands.replace("\\\n", " ").splitlines()[1:]
    *searches, watching = (line.partition("#")[0].strip() for line in lines)
    places = [str(Path(program).parent) for program in (sys.executable, mpiexec.launcher)]
    environ = {**os.environ, "PATH": os.pathsep.join([*places, os.environ["PATH"]])}
    for command in searches:
        process = subprocess.run(
            command,
            shell=True, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=270,
            check=False,
        )  # fmt: skip
        assert process.returncode == 0, f"{command}:\n{process.stderr}"
    study = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path}/study.db")
    assert len(study.trials) == 2200
    assert watching == "optuna-dashboard sqlite:///study.db"
    port = free_port()
    with subprocess.Popen(
        [*watching.split(), "--port", str(port)], cwd=tmp_path, env=environ, stderr=subprocess.PIPE
    ) as dashboard:
        try:
            page = fetched(f"http://127.0.0.1:{port}/api/studies")
        finally:
            dashboard.terminate()
    assert b'"tune"' in page


def fetched(url: str) -> bytes:
    """Return what a server answers that may still be starting."""
    for _ in range(200):
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            time.sleep(0.2)
    raise TimeoutError(url)


def test_most_pages_show_code() -> None:
    assert len(PAGES) >= 6


def test_the_batch_scripts_of_the_documentation_are_shell() -> None:
    scripts = re.findall(r"^```sh\n(.*?)^```", (DOCS / "clusters.md").read_text(), re.M | re.S)
    assert len(scripts) == 3
    for script in scripts:
        process = subprocess.run(["bash", "-n", "-c", script], check=False)
        assert process.returncode == 0


def test_container_and_environment_name_extras_that_there_are() -> None:
    known = set(metadata.metadata("optuna-propulate").get_all("Provides-Extra"))
    for name in ("Containerfile", "environment.yml"):
        (extras,) = re.findall(r"(?:optuna_propulate|\.)\[([a-z,]+)\]", (ROOT / name).read_text())
        assert set(extras.split(",")) <= known
