"""Every block of Python in README and documentation runs, as a newcomer would paste it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    from collections.abc import Callable


DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
README = DOCS.parent / "README.md"
PAGES = [page for page in [*sorted(DOCS.glob("*.md")), README] if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, mpiexec: Callable) -> None:
    for number, block in enumerate(BLOCK.findall(page.read_text())):
        if block.startswith("# under mpirun"):
            status, errors = (outcome := mpiexec(block, 4)).status, outcome.stderr
        else:
            process = subprocess.run(
                [sys.executable, "-c", block],
                cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            status, errors = process.returncode, process.stderr
        assert status == 0, f"block {number} of {page.name}:\n{errors}"


def test_most_pages_show_code() -> None:
    assert len(PAGES) >= 6


def test_the_batch_scripts_of_the_documentation_are_shell() -> None:
    scripts = re.findall(r"^```sh\n(.*?)^```", (DOCS / "clusters.md").read_text(), re.M | re.S)
    assert len(scripts) == 2
    for script in scripts:
        process = subprocess.run(["bash", "-n", "-c", script], check=False)
        assert process.returncode == 0
