"""The objective that a command line names: a function of a file or module."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from typing import cast

import optuna

from optuna_propulate.study import IslandStudy


if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from optuna_propulate.optimize.loop import Objective


def load_objective(place: str) -> Objective:
    """Return the function that a command line names.

    Args:
        place: ``FILE.py:function`` or ``package.module:function``. A module is looked for in the
            working folder first, and what a file imports in the file's own.

    Raises:
        ImportError: If there is no such file, module or function, or it is no Python.
    """
    source, _, name = place.rpartition(":")
    if not source or not name:
        raise ImportError(f"{place!r} is neither FILE.py:function nor package.module:function")
    with _no_search(source):
        try:
            module = _imported(source)
        except SyntaxError as error:
            raise ImportError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ImportError(f"{source} has no function {name}")
    return cast("Objective", function)


def _imported(source: str) -> ModuleType:
    if not source.endswith(".py"):
        sys.path.insert(0, "")
        return importlib.import_module(source)
    path = Path(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise ImportError(f"there is no file {source}")
    sys.path.insert(0, str(path.parent.resolve()))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _no_search(source: str) -> Iterator[None]:
    """Let no study be optimised meanwhile: its trials would be more than were asked for.

    Raises:
        ImportError: If one is.
    """

    def refused(*_: object, **__: object) -> None:
        raise ImportError(
            f"importing {source} runs a search of its own; put what calls optimize under "
            "`if __name__ == '__main__':`"
        )

    kinds = (optuna.Study, IslandStudy)
    methods = [kind.optimize for kind in kinds]
    for kind in kinds:
        kind.optimize = refused  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, method in zip(kinds, methods, strict=True):
            kind.optimize = method  # type: ignore[method-assign]
