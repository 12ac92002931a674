"""The spill: a file for what the database does not take, and its way back into the database.

Each line is JSON: the study's name, an id of the job, and one trial as it was told. The same trial
may stand in several lines, each telling more of it.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from optuna.trial import create_trial
from sqlalchemy.exc import SQLAlchemyError

from optuna_propulate._optuna_compat import study_id_of
from optuna_propulate._optuna_compat import trial_id_of
from optuna_propulate.storages.sql.engine import connect_engine
from optuna_propulate.storages.sql.open import open_rdb
from optuna_propulate.storages.sql.read import ids_of_numbers
from optuna_propulate.storages.sql.read import read_trials
from optuna_propulate.storages.sql.read import system_attribute
from optuna_propulate.storages.sql.write import BulkWriter
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.changes import distribution_of
from optuna_propulate.storages.wire.times import local
from optuna_propulate.storages.writer.study_writer import merged
from optuna_propulate.storages.writer.study_writer import write_about
from optuna_propulate.storages.writer.unfit import reason_of


if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Sequence

    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine

_logger = optuna.logging.get_logger("optuna." + __name__)

IMPORTED = "propulate:imported"
"""The system attribute of a trial that was imported under another number: its job and number."""


class Spill:
    """Holds a file that is opened when there is something to be written into it.

    Args:
        folder: Where the file lies.
        job: Tells the job from all others; several processes of it may write to one file.
    """

    def __init__(self, folder: Path, job: str) -> None:
        self._job = job
        self._descriptor: int | None = None
        self.path = folder / f"optuna-propulate-{job[:12]}.jsonl"

    def add(self, study_name: str, changes: Iterable[Change]) -> None:
        """Write changes to the file, so that they outlive this process and the machine."""
        if self._descriptor is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)  # it may have been deleted
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        lines = [
            json.dumps({"study": study_name, "job": self._job, "trial": change.pack()})
            for change in changes
        ]
        content = "".join(line + "\n" for line in lines).encode()
        while content:
            content = content[os.write(self._descriptor, content) :]
        os.fsync(self._descriptor)


def import_trials(path: str | os.PathLike[str], storage: str) -> int:
    """Put the trials of a spill file into the database, each once, however often this is called.

    A trial that the database has under its number is completed; one whose number has been given
    to another meanwhile, or that lies beyond the last number, is added at the end.

    Args:
        path: The file, as a job named it.
        storage: The database's URL.

    Returns:
        How many trials were completed or added.

    Raises:
        KeyError: If a study is not in the database.
        StorageInternalError: If the database is away.
        UnfitError: If the database does not take some of the trials; the others are there.
        ValueError: If a line is none of a spill file.
    """
    by_study: dict[tuple[str, str], list[Change]] = {}
    *lines, torn = Path(path).read_text().split("\n")
    if torn:
        _logger.warning(f"The last line of {path} is not complete, and is left out.")
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            change = Change(*entry["trial"])
            by_study.setdefault((entry["study"], entry["job"]), []).append(change)
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"Line {number} of {path} is none of a spill file.") from None
    n_imported, unfit = 0, []
    try:
        for (name, job), changes in by_study.items():
            n, some = _import_into(name, job, merged(changes).values(), storage)
            n_imported += n
            unfit += some
    except SQLAlchemyError as error:
        raise StorageInternalError(reason_of(error)) from error
    if unfit:
        raise UnfitError(n_imported, unfit)
    return n_imported


class UnfitError(ValueError):
    """Some trials of a file are not fit for the database; all others were put in.

    Args:
        n_imported: How many were put in.
        unfit: What is wrong with each of the others.
    """

    def __init__(self, n_imported: int, unfit: Sequence[str]) -> None:
        super().__init__(
            f"{n_imported} trials were put into the database; not fit for it: {'; '.join(unfit)}"
        )


def _import_into(
    name: str, job: str, changes: Iterable[Change], url: str
) -> tuple[int, list[str]]:
    rdb = open_rdb(url)
    study = optuna.load_study(study_name=name, storage=rdb)
    with rdb.engine.connect() as connection:
        imported = system_attribute(connection, study_id_of(study), IMPORTED)
    engine = connect_engine(url, None, writing=True)
    n_imported, unfit = 0, []
    for change in changes:
        try:
            n_imported += _import_one(study, engine, f"{job}:{change.number}", imported, change)
        except Exception as error:
            with engine.connect():  # fails if the database is away: then no trial is to blame
                unfit.append(f"trial {change.number} of study {name!r}: {reason_of(error)}")
    engine.dispose()
    return n_imported, unfit


def _import_one(
    study: optuna.Study, engine: Engine, key: str, imported: set[Any], change: Change
) -> bool:
    """Put one trial into the database; return whether it was not there as it is."""
    with engine.begin() as connection:
        ids = ids_of_numbers(connection, study_id_of(study), [change.number])
        identity = change.identity or ids.get(change.number)
        there = next(read_trials(connection, [identity]), None) if identity else None
        if there is not None and _is_same(there, change):
            if not _tells_more(change, there):
                return False
            bulk = BulkWriter(connection)
            row = (change.state, change.start, change.complete, trial_id_of(there))
            bulk.update_trials([row], also_failed=True)
            write_about(bulk, [(trial_id_of(there), change)], is_new=False)
            return True
    if key in imported or change.state == "RUNNING":
        return False
    study.add_trial(_as_trial(change, key))
    return True


def _tells_more(change: Change, there: FrozenTrial) -> bool:
    """Tell whether a change goes on where a row ends; a next job has failed what was running."""
    if there.state == TrialState.FAIL:
        return change.state in ("COMPLETE", "PRUNED")
    return not there.state.is_finished()


def _is_same(there: FrozenTrial, change: Change) -> bool:
    """Tell whether a row is the trial's: another's would have started at another time.

    MySQL keeps whole seconds, in which another job's trial of that number may have started: then
    its parameters, or its values, are others.
    """
    start = _local(change.start)
    if start is None or there.datetime_start is None:
        return change.identity is not None
    if there.datetime_start.microsecond != 0:
        return there.datetime_start == start
    return abs(there.datetime_start - start) < timedelta(seconds=1) and _agrees(there, change)


def _agrees(there: FrozenTrial, change: Change) -> bool:
    """Tell whether a row and a trial have the same in what is never changed once it is told."""
    if there.values and change.values and list(there.values) != list(change.values):
        return False
    return all(
        there.distributions[name].to_internal_repr(there.params[name]) == value
        for name, value, _ in change.params
        if name in there.params
    )


def _as_trial(change: Change, key: str) -> FrozenTrial:
    distributions = {name: distribution_of(text) for name, _, text in change.params}
    system = {name: json.loads(text) for name, text in change.system.items()}
    trial = create_trial(
        state=TrialState[change.state],
        values=change.values,
        params={name: distributions[name].to_external_repr(v) for name, v, _ in change.params},
        distributions=distributions,
        user_attrs={name: json.loads(text) for name, text in change.user.items()},
        system_attrs={**system, IMPORTED: key},
        intermediate_values={int(step): value for step, value in change.steps},
    )
    trial.datetime_start = _local(change.start)
    trial.datetime_complete = _local(change.complete)
    return trial


def _local(text: Any) -> datetime | None:
    return None if text is None else local(datetime.fromisoformat(text))
