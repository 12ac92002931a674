from __future__ import annotations

import ast
from pathlib import Path

import pytest


PACKAGE = Path(__file__).parent.parent / "optuna_propulate"

# From the lowest: each imports only those before it, also for its types.
LAYERS = [
    "_optuna_compat", "evolution", "operators", "parallel", "storages", "records", "exchange",
    "breeders", "islands", "optimize", "sampler", "study", "visualization", "cli",
]  # fmt: skip


def imported(path: Path) -> set[str]:
    """Return the layers that a file imports from."""
    nodes = ast.walk(ast.parse(path.read_text()))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names = [module.split(".") for module in modules if module.startswith("optuna_propulate.")]
    return {name[1] for name in names} & set(LAYERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_those_below_it(layer: str) -> None:
    files = [*(PACKAGE / layer).rglob("*.py"), *PACKAGE.glob(f"{layer}.py")]
    assert files
    allowed = set(LAYERS[: LAYERS.index(layer) + 1])
    assert {
        path.name: imported(path) - allowed for path in files if imported(path) - allowed
    } == {}
