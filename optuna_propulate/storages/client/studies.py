"""What a process knows of the studies of a database, asked of the writer as rarely as it may."""

from __future__ import annotations

import copy
import time
from collections import Counter
from typing import TYPE_CHECKING
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.study import StudyDirection

from optuna_propulate.storages.client.connection import UnansweredError
from optuna_propulate.storages.client.study import StudyView
from optuna_propulate.storages.wire.blocks import Numbers
from optuna_propulate.storages.wire.changes import unpack_trial
from optuna_propulate.storages.writer.jobs import EXPIRES_AFTER


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Iterator
    from typing import TypeVar

    from optuna_propulate.storages.client.rank import RankClient

    T = TypeVar("T")

_logger = optuna.logging.get_logger("optuna." + __name__)

DECIDED_WITHIN = 2 * EXPIRES_AFTER  # in seconds, whether another job that adds trials is alive
_NAMED = 10  # hosts
_ASK_TIMEOUT = 10.0  # in seconds, to hear what has become of something that is known already


class Studies:
    """Holds the views of the studies, and what was asked about them.

    Args:
        client: Asks the writer.
        refresh_interval: How long an answer lasts, in seconds.
        commit_timeout: In seconds.
    """

    def __init__(self, client: RankClient, refresh_interval: float, commit_timeout: float) -> None:
        self._client = client
        self._refresh_interval, self._commit_timeout = refresh_interval, commit_timeout
        self._views: dict[int, StudyView] = {}
        self._ids: dict[str, tuple[float, int]] = {}  # when a study's was asked for
        self._n_views = 0

    def __iter__(self) -> Iterator[StudyView]:
        return iter(list(self._views.values()))

    def known(self, study_id: int) -> StudyView | None:
        """Return the view of a study that this process has asked for."""
        return self._views.get(study_id)

    def go_on(self, studies: Iterable[tuple[Any, ...]]) -> None:
        """Know the studies of a rank, as ``Handover`` has them."""
        for study_id, place, directions, name, numbers, counter in studies:
            study = self._views[study_id] = StudyView(study_id, place, directions)
            study.name, study.numbers, study.counter = name, numbers, counter
            self._n_views = max(self._n_views, place + 1)

    def forget(self, study_id: int) -> StudyView | None:
        """Forget a study that was deleted; the lock is held."""
        self._ids = {name: known for name, known in self._ids.items() if known[1] != study_id}
        return self._views.pop(study_id, None)

    def call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """Let the writer call Optuna's own storage about studies."""
        return self._client.call("study", method, list(arguments), timeout=timeout)

    def get(self, study_id: int) -> StudyView:
        """Return the view of a study; ``KeyError`` if there is none."""
        study = self._views.get(study_id)
        if study is None:
            names = self.call("get_study_directions", study_id)
            with self._client.lock:
                if study_id not in self._views:
                    directions = [StudyDirection[name] for name in names]
                    self._views[study_id] = StudyView(study_id, self._n_views, directions)
                    self._n_views += 1
                study = self._views[study_id]
        return study

    def attributes(self, study_id: int, kind: str) -> dict[str, Any]:
        """Return attributes of a study, at most ``refresh_interval`` old; older in an outage.

        Args:
            study_id: The study.
            kind: ``"user"`` or ``"system"``.
        """
        study = self.get(study_id)
        return self._last_known(
            study.attributes,
            kind,
            has_begun=study.has_begun,
            ask=lambda timeout: dict(
                self.call(f"get_study_{kind}_attrs", study_id, timeout=timeout)
            ),
        )

    def id_of_name(self, name: str) -> int:
        """Return the id of a study, as Hyperband asks at each step; likewise."""
        _, known = self._ids.get(name, (0.0, None))
        study = self._views.get(known) if known is not None else None
        return self._last_known(
            self._ids,
            name,
            has_begun=study is not None and study.has_begun,
            ask=lambda timeout: int(self.call("get_study_id_from_name", name, timeout=timeout)),
        )

    def name_of(self, study_id: int) -> str:
        """Return the name of a study; it never changes."""
        return self.get(study_id).name or str(self.call("get_study_name_from_id", study_id))

    def create(self, directions: list[str], name: str | None) -> int:
        """Create a study and return its id."""
        study_id = int(self.call("create_new_study", directions, name))
        if name is not None:
            self._ids[name] = -float("inf"), study_id
        return study_id

    def _last_known(
        self,
        known: dict[str, tuple[float, T]],
        key: str,
        *,
        has_begun: bool,
        ask: Callable[[float | None], T],
    ) -> T:
        """Ask the writer, unless that was done within ``refresh_interval``.

        Args:
            known: When it was asked before, and what it said.
            key: For what.
            has_begun: Whether to do with what is known, where the database is away.
            ask: Asks it, and waits so long, in seconds.
        """
        read_at, value = known.get(key, (0.0, None))
        if value is None:
            value = ask(None)
        elif time.monotonic() < read_at + self._refresh_interval or (
            has_begun and self._client.is_writer_away
        ):
            return value
        else:
            try:
                value = ask(_ASK_TIMEOUT)
            except StorageInternalError:
                if not has_begun:
                    raise
        known[key] = time.monotonic(), value
        return value

    def set_attribute(self, study_id: int, kind: str, key: str, value: Any) -> None:
        """Set an attribute of a study, at once."""
        self.call(f"set_study_{kind}_attr", study_id, key, value)
        study = self.get(study_id)
        if kind in study.attributes:
            known = {**study.attributes[kind][1], key: copy.deepcopy(value)}
            study.attributes[kind] = -float("inf"), known

    def begin(self, study: StudyView) -> None:
        """Prepare for adding trials to a study; waits for a database that is away.

        Raises:
            StorageInternalError: If it does not become known in time who else adds trials.
        """
        if study.has_begun:
            return
        numbers, counter, waiting, best, name, attributes, others = self._begun(study.study_id)
        base, is_late, blocks, first_worker = numbers
        with self._client.lock:
            if study.has_begun:
                return
            study.name, study.counter = name, counter
            study.waiting.add(dict(waiting))
            if best is not None:
                study.note_if_best(unpack_trial(best))
            # Each log line of Optuna's asks for them; they may be older than what is known here.
            study.attributes.setdefault("system", (-float("inf"), dict(attributes)))
            self._ids.setdefault(name, (-float("inf"), study.study_id))
            study.is_late, study.first_worker = is_late, first_worker
            study.numbers = Numbers(base, blocks)
        if others and self._client.starts_writer:
            _logger.info(_company(name, others))

    def _begun(self, study_id: int) -> list[Any]:
        timeout = max(self._commit_timeout, DECIDED_WITHIN)
        while True:
            try:
                return list(self._client.call("begin", study_id, None, None, timeout=timeout))
            except UnansweredError:
                if not self._client.is_writer_away or self._client.is_hurried:
                    raise


def _company(name: str, others: list[list[Any]]) -> str:
    """Return a line that says who else adds trials to a study: host and process of each job."""
    hosts = Counter(str(host) for host, _ in others)
    shown = [f"{n} on {host}" for host, n in sorted(hosts.items())[:_NAMED]]
    shown += ["..."] * (len(hosts) > _NAMED)
    n = len(others)
    jobs = "Another job adds" if n == 1 else f"{n} other jobs add"
    return f"{jobs} trials to study {name!r}, too: {', '.join(shown)}."
