"""Every block of Python in the documentation runs, page by page, as a newcomer would paste it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [page for page in sorted(DOCS.glob("*.md")) if BLOCK.search(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(BLOCK.findall(page.read_text())):
        process = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert process.returncode == 0, f"block {number} of {page.name}:\n{process.stderr}"


def test_most_pages_show_code() -> None:
    assert len(PAGES) >= 6


def test_the_batch_scripts_of_the_documentation_are_shell() -> None:
    scripts = re.findall(r"^```sh\n(.*?)^```", (DOCS / "clusters.md").read_text(), re.M | re.S)
    assert len(scripts) == 2
    for script in scripts:
        process = subprocess.run(["bash", "-n", "-c", script], check=False)
        assert process.returncode == 0
