from __future__ import annotations

import threading
import time

from optuna_propulate.optimize.throttle import Throttle


def due(throttle: Throttle, **how: bool) -> bool:
    with throttle.turn(**how) as is_due:
        return is_due


def test_the_next_turn_is_an_interval_later() -> None:
    throttle = Throttle(3600.0)
    assert [due(throttle), due(throttle), due(throttle, now=True)] == [True, False, True]


def test_the_first_turn_may_have_to_wait() -> None:
    throttle = Throttle(1e-9, wait=3600.0)
    assert [due(throttle), due(throttle, now=True)] == [False, True]


def test_what_takes_long_is_done_less_often() -> None:
    throttle = Throttle(1e-9)
    with throttle.turn() as is_due:
        time.sleep(0.1)  # stands for the work
    assert is_due
    assert not due(throttle)  # for fifty times as long


def test_one_thread_at_a_time_has_its_turn() -> None:
    throttle, turns = Throttle(1e-9), []
    with throttle.turn() as is_due:
        other = threading.Thread(target=lambda: turns.append(due(throttle)))
        other.start()
        other.join()
    assert (is_due, turns) == (True, [False])


def test_an_error_ends_a_turn() -> None:
    throttle = Throttle(1e-9)
    try:
        with throttle.turn():
            raise ArithmeticError
    except ArithmeticError:
        pass
    deadline = time.monotonic() + 10.0
    while not due(throttle):
        assert time.monotonic() < deadline
