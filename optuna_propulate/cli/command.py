"""What all commands share: their arguments, and a mistake said in one line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING
from typing import Any
from typing import NoReturn
from typing import TypeVar

from optuna.exceptions import OptunaError

from optuna_propulate.parallel.launch import communicator
from optuna_propulate.parallel.spokesman import is_spoken
from optuna_propulate.parallel.spokesman import speak_for_others
from optuna_propulate.records.reading import study_of
from optuna_propulate.storages.sql.open import UnusableURLError
from optuna_propulate.storages.sql.open import announced
from optuna_propulate.storages.sql.open import check_exists
from optuna_propulate.storages.sql.open import open_rdb
from optuna_propulate.study import DEFAULT_STORAGE


if TYPE_CHECKING:
    from collections.abc import Callable

    import optuna


T = TypeVar("T")


EXIT_CODES = """\
exit status:
  0        done
  1        the search or the command failed; the reason is on the standard error
  2        the command line is not right
  128 + n  signal n ended the search in order, with everything committed (143: SIGTERM)
"""


_NAME_HELP = "one that is there is gone on with, or shown; a new one is made by `run`"
_MISTAKES = (ImportError, KeyError, OSError, TypeError, ValueError, OptunaError)


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with a command line."""

    def error(self, message: str) -> NoReturn:
        refuse(f"{message}; `{self.prog} --help` has the options")


def loaded(given: argparse.Namespace) -> optuna.Study:
    """Return the study that the command line names."""

    def load() -> optuna.Study:
        check_exists(given.storage)
        with announced(given.storage):
            return study_of(open_rdb(given.storage), given.study_name)

    return checked(load)


def checked(
    step: Callable[[], T],
    kinds: tuple[type[Exception], ...] = _MISTAKES,
    *,
    status: int | None = None,
) -> T:
    """Return what a step returns; if it raises one of these, say why in one line, and end.

    Args:
        step: What is done.
        kinds: What it may raise.
        status: What the process ends with then; ``None`` for 1 if it is the storage or the
            system that cannot, else 2.
    """
    try:
        return step()
    except kinds as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        cannot = isinstance(error, (OptunaError, OSError))
        cannot = cannot and not isinstance(error, (FileNotFoundError, UnusableURLError))
        refuse(str(reason), (1 if cannot else 2) if status is None else status)


def refuse(reason: str, status: int = 2) -> NoReturn:
    """Say in one line why the command cannot be done, and end the process.

    Where all ranks of a job have to say so, rank 0 does, and the others end with 0.
    """
    comm = communicator(None)
    if comm is not None and comm.rank > 0 and is_spoken(comm):
        raise SystemExit(0)
    line = " ".join(reason.split())  # a driver's reason may have several lines
    print(f"optuna-propulate: {line}", file=sys.stderr, flush=True)
    if comm is not None and comm.rank == 0:
        speak_for_others(comm)
    elif comm is not None:
        comm.Abort(status)  # the others have begun, and would wait for this one
    raise SystemExit(status)


def add_command(
    commands: Any,
    word: str,
    command: Callable[[argparse.Namespace], None],
    text: str,
    *,
    name: bool = True,
) -> argparse.ArgumentParser:
    """Add a command that takes a storage, and the name of a study unless it needs none.

    Args:
        commands: The commands of the parser.
        word: What it is called.
        command: What it does.
        text: What ``--help`` says of it.
        name: Whether it takes ``--study-name``.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        word, help=text, description=text, epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(command=command, on_every_rank=False)
    parser.add_argument("--storage", default=DEFAULT_STORAGE, metavar="URL", help="(%(default)s)")
    if name:
        parser.add_argument("--study-name", type=_named, metavar="NAME", help=_NAME_HELP)
    return parser


def _named(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a name, but it is empty")
    return text
