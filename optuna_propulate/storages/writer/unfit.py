"""Fitness: which changes the database takes, and which it never will."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from typing import Any

from optuna.distributions import check_distribution_compatibility
from sqlalchemy.exc import DataError
from sqlalchemy.exc import IntegrityError
from sqlalchemy.exc import ProgrammingError

from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.changes import distribution_of
from optuna_propulate.storages.wire.times import utc
from optuna_propulate.storages.writer.jobs import StudyLockedError
from optuna_propulate.storages.writer.jobs import UndecidedError


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping
    from collections.abc import Sequence

FAIL_REASON = "fail_reason"
"""The user attribute that says why a trial could not be written."""

_UNFIT = (DataError, IntegrityError, ProgrammingError, ValueError, TypeError, OverflowError)
"""What is raised for values that a database cannot hold; other errors may mean an outage."""

_LONGEST_REASON = 500
_MOST_KNOWN = 10_000  # distributions: one whose range moves is another for each trial


class DeletedError(Exception):
    """The study to be written to is gone."""


class Judge:
    """Holds, for one study, what a trial has to agree with, and the trials that were refused.

    Args:
        distributions: The first distribution of each parameter, as JSON, by name.
    """

    def __init__(self, distributions: Mapping[str, str]) -> None:
        self.refused: set[int | tuple[int]] = set()
        self._first = dict(distributions)
        self._fit: set[tuple[str, str]] = set()

    def objection(self, change: Change) -> str:
        """Return what is wrong with the parameters of a trial; ``""`` for nothing."""
        for name, _, text in change.params:
            if (name, text) in self._fit:
                continue
            try:
                known = distribution_of(self._first.setdefault(name, text))
                check_distribution_compatibility(known, distribution_of(text))
            except Exception as error:  # whatever stands there in place of a distribution
                return f"parameter {name!r}: {error}"
            if len(self._fit) >= _MOST_KNOWN:
                self._fit.clear()
            self._fit.add((name, text))
        return ""


def write_fit(
    changes: Sequence[Change],
    write: Callable[[Sequence[Change]], list[Any]],
    is_there: Callable[[], bool],
) -> tuple[list[Any], list[tuple[Change, str]]]:
    """Write those changes that the database takes; at once, if it takes all of them.

    A batch that it does not take, although it is there, is halved until what is not fit stands
    alone. A connection that is lost over a statement looks like an outage, so that it fails twice
    counts.

    Args:
        changes: One for each trial.
        write: Writes some of them in a transaction, and returns what there is to tell.
        is_there: Tells whether the database takes anything just now.

    Returns:
        What there is to tell; the changes that are not fit, with the reasons.

    Raises:
        Exception: What ``write`` raised, if the database is away.
    """
    error: Exception | None = None
    while True:
        try:
            return write(changes), []
        except (DeletedError, StudyLockedError, UndecidedError):
            raise
        except Exception as failure:
            is_again, error = error is not None, failure
            if isinstance(failure, _UNFIT):
                break
            if not is_there():
                raise
            if is_again:
                break
    if len(changes) <= 1:
        if not changes:
            raise error
        return [], [(changes[0], reason_of(error))]
    middle = len(changes) // 2
    news, unfit = write_fit(changes[:middle], write, is_there)
    more, others = write_fit(changes[middle:], write, is_there)
    return news + more, unfit + others


def failed(change: Change, reason: str) -> Change:
    """Return what is written of a trial that is not fit: that it failed, and why."""
    return replace(
        change,
        state="FAIL",
        complete=change.complete or utc(datetime.now()),
        params=[],
        values=None,
        user={FAIL_REASON: json.dumps(reason[:_LONGEST_REASON])},
        system={},
        steps=[],
    )


def reason_of(error: Exception) -> str:
    """Return what a database or its driver has to say, shortened."""
    return str(getattr(error, "orig", None) or error)[:_LONGEST_REASON]
