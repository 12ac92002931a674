from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARK = Path(__file__).parent.parent.parent / "benchmarks" / "traffic.py"
TINY = ["--workers", "16", "--trials", "400", "--fan-out-workers", "25", "--fan-out-trials", "400"]


def test_what_matters_is_less_than_every_birth_and_the_pools_agree() -> None:
    process = subprocess.run(
        [sys.executable, str(BENCHMARK), *TINY, "--no-mpi"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    rows = [line.split() for line in process.stdout.splitlines() if line.endswith((" yes", " NO"))]
    assert len(rows) == 13
    for row in rows:
        matters, every, _, matters_bytes, every_bytes, agree = row[-6:]
        assert float(matters) < float(every)
        assert _number(matters_bytes) < _number(every_bytes)
        assert agree == "yes"
    assert "bytes; encode" in process.stdout


def test_a_fan_out_is_measured_on_two_ranks(mpiexec: Callable) -> None:
    outcome = mpiexec(
        f"""
        import runpy
        sys.argv = [{str(BENCHMARK)!r}, "--on-ranks", "9"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        """,
        2,
    )
    assert outcome.status == 0, outcome.stderr
    measured = json.loads(outcome.stdout)
    assert set(measured) == {"receiver polls", "receiver evaluates", "take in"}
    assert min(measured.values()) > 0


def _number(column: str) -> int:
    return int(column.replace(",", ""))
