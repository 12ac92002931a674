from __future__ import annotations

import dataclasses
import json
import os
import socket
import struct
import time
from contextlib import contextmanager
from datetime import datetime
from datetime import timedelta
from typing import TYPE_CHECKING
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.distributions import FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial
from optuna.trial import TrialState

from optuna_propulate._optuna_compat import rdb_models
from optuna_propulate.storages.wire import frames as protocol
from optuna_propulate.storages.wire.changes import Change
from optuna_propulate.storages.wire.changes import pack_trial
from optuna_propulate.storages.wire.changes import unpack_trial
from optuna_propulate.storages.wire.frames import LARGEST_FRAME
from optuna_propulate.storages.wire.frames import FrameReader
from optuna_propulate.storages.wire.frames import frame
from optuna_propulate.storages.wire.handshake import NONCE_BYTES
from optuna_propulate.storages.wire.handshake import is_proof
from optuna_propulate.storages.wire.handshake import new_token
from optuna_propulate.storages.wire.handshake import proof
from optuna_propulate.storages.wire.handshake import receive_exactly
from optuna_propulate.storages.wire.times import local
from optuna_propulate.storages.wire.times import utc


if TYPE_CHECKING:
    from collections.abc import Iterator

FLOATS = st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
MESSAGES = st.lists(JSON, min_size=1, max_size=4)


def received(chunks: list[bytes]) -> list[list[Any]]:
    """Return the messages that a reader makes of bytes that come in these portions."""
    reader, messages = FrameReader(), []
    here, there = socket.socketpair()
    with here, there:
        for chunk in chunks:
            there.sendall(chunk)
            messages += reader.read(here)
    return messages


def test_frames_cut_at_any_byte_are_put_together_again() -> None:
    messages = [["ack", 1], ["trouble", "ü"], ["result", 2, {"x": [1.5, None]}]]
    sent = b"".join(map(frame, messages))
    for place in range(1, len(sent)):
        assert received([sent[:place], sent[place:]]) == messages
    assert received([sent[n : n + 1] for n in range(len(sent))]) == messages


@given(st.lists(MESSAGES, min_size=1, max_size=4), st.data())
def test_messages_arrive_as_they_were_sent(messages: list[list[Any]], data: st.DataObject) -> None:
    sent = b"".join(map(frame, messages))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=6)))
    chunks = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert received(chunks) == messages


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack(">I", LARGEST_FRAME + 1),
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 0),
        struct.pack(">I", 3) + b"[1,",
        struct.pack(">I", 2) + b"\xff\xfe",
        frame(["ack", 1]) + struct.pack(">I", 1) + b"?",
    ],
)
def test_what_is_no_frame_ends_the_connection(sent: bytes) -> None:
    with pytest.raises(ConnectionError, match="does not speak this protocol"):
        received([sent])


def test_the_end_of_the_connection_is_an_error() -> None:
    here, there = socket.socketpair()
    with here:
        there.sendall(frame(["ack", 1])[:-1])
        there.close()
        reader = FrameReader()
        assert list(reader.read(here)) == []
        with pytest.raises(ConnectionError, match="closed"):
            list(reader.read(here))
        with pytest.raises(ConnectionError, match="closed"):
            receive_exactly(here, 1)


def test_a_message_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LARGEST_FRAME", 10)
    assert frame(["12345678"[:6]])[4:] == b'["123456"]'
    with pytest.raises(ValueError, match="11 bytes"):
        frame(["1234567"])


def test_exactly_so_many_bytes_are_received() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"abcd")
        assert receive_exactly(here, 3) == b"abc"
        assert receive_exactly(here, 1) == b"d"


@given(st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES), st.binary(max_size=40))
def test_only_the_token_proves_that_it_is_known(nonce: bytes, other: bytes) -> None:
    token = new_token()
    given_proof = proof(token, nonce)
    assert is_proof(token, nonce, given_proof)
    assert token not in given_proof.hex()
    assert not is_proof(new_token(), nonce, given_proof)
    assert not is_proof(token, nonce, other)
    assert not is_proof(token, nonce, given_proof[:-1])
    assert not is_proof(token, bytes(b ^ 1 for b in nonce), given_proof)


ZONES = {
    "UTC": "UTC0",
    "India": "IST-5:30",
    "Berlin": "CET-1CEST,M3.5.0,M10.5.0/3",
    "New York": "EST5EDT,M3.2.0,M11.1.0",
    "Lord Howe": "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
}


@contextmanager
def zone(name: str) -> Iterator[None]:
    """Let this process live in a time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONES[name]
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


def _folded(there: datetime) -> bool:
    """Tell whether the local time of a time in UTC comes twice, as clocks are put back."""
    naive = datetime.fromtimestamp((there - datetime(1970, 1, 1)).total_seconds())
    return naive.replace(fold=0).timestamp() != naive.replace(fold=1).timestamp()


INSTANTS = st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1))


@given(st.sampled_from(sorted(ZONES)), INSTANTS)
def test_a_time_of_the_database_survives_the_local_zone(name: str, there: datetime) -> None:
    with zone(name):
        if not _folded(there):
            assert utc(local(there)) == there.isoformat(sep=" ", timespec="microseconds")


@given(st.sampled_from(sorted(ZONES)), INSTANTS, st.sampled_from([0, 1]))
def test_times_are_kept_as_optuna_keeps_them(name: str, here: datetime, fold: int) -> None:
    here = here.replace(fold=fold)
    with zone(name):
        row = rdb_models().TrialModel()
        row.datetime_start = here
        assert utc(here) == row._datetime_start_utc.isoformat(sep=" ", timespec="microseconds")
        assert local(row._datetime_start_utc) == row.datetime_start


def test_the_zone_moves_the_clock() -> None:
    noon = datetime(2024, 7, 1, 12)
    offsets = {"UTC": 0.0, "India": 5.5, "Berlin": 2.0, "New York": -4.0, "Lord Howe": 10.5}
    for name, hours in offsets.items():
        with zone(name):
            assert local(noon) == noon + timedelta(hours=hours)
            assert utc(noon) == (noon - timedelta(hours=hours)).isoformat(" ", "microseconds")
    assert utc(None) is None
    assert local(None) is None


CATEGORIES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
DISTRIBUTIONS = st.one_of(
    # Those of 0.0 and of -0.0 are equal, and either may come back for the other.
    st.floats(-1e300, 1e300).map(lambda low: FloatDistribution(low + 0.0, low + abs(low) + 1)),
    st.floats(1e-300, 1e300).map(lambda low: FloatDistribution(low, 2 * low, log=True)),
    st.integers(1, 9).map(lambda n: FloatDistribution(-n / 4, 2 * n, step=n / 4)),
    st.integers(-(2**50), 2**50).map(lambda low: IntDistribution(low, low + 7)),
    st.integers(1, 2**50).map(lambda low: IntDistribution(low, 3 * low, log=True)),
    st.integers(1, 9).map(lambda step: IntDistribution(0, 5 * step, step=step)),
    st.lists(CATEGORIES, min_size=1, max_size=5, unique=True).map(CategoricalDistribution),
)


@st.composite
def trials(draw: st.DrawFn) -> FrozenTrial:
    distributions = draw(st.dictionaries(st.text(max_size=5), DISTRIBUTIONS, max_size=4))
    params = {}
    for name, distribution in distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            params[name] = draw(st.sampled_from(distribution.choices))
        else:
            params[name] = draw(st.sampled_from([distribution.low, distribution.high]))
    times = st.none() | INSTANTS.map(lambda time: time.replace(fold=0))
    attributes = st.dictionaries(st.text(max_size=5), JSON, max_size=3)
    return FrozenTrial(
        number=draw(st.integers(0, 2**31)),
        trial_id=draw(st.integers(0, 2**62)),
        state=draw(st.sampled_from(TrialState)),
        value=None,
        values=draw(st.none() | st.lists(st.floats(), min_size=1, max_size=3)),
        datetime_start=draw(times),
        datetime_complete=draw(times),
        params=params,
        distributions=distributions,
        user_attrs=draw(attributes),
        system_attrs=draw(attributes),
        intermediate_values=draw(st.dictionaries(st.integers(0, 2**40), st.floats(), max_size=3)),
    )


@given(trials())
def test_a_trial_travels_unchanged(trial: FrozenTrial) -> None:
    with zone("India"):
        there = unpack_trial(json.loads(json.dumps(pack_trial(trial))))
    assert repr(there) == repr(trial)  # as nan is not equal to itself, but 1 is to True
    assert list(there.params) == list(trial.params)


PAIRS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
CHANGES = st.builds(
    Change,
    number=st.integers(0, 2**40),
    identity=st.none() | st.integers(0, 2**40),
    state=st.sampled_from([state.name for state in TrialState]),
    start=st.none() | st.just("2024-01-01 00:00:00.000000"),
    complete=st.none() | st.just("2024-01-01 00:00:01.000000"),
    params=st.lists(st.tuples(st.text(), FLOATS, st.integers(0, 9)).map(list), max_size=2),
    values=st.none() | st.lists(FLOATS, min_size=1, max_size=2),
    user=PAIRS,
    system=PAIRS,
    steps=st.lists(st.tuples(st.integers(), FLOATS).map(list), max_size=2),
)


@given(CHANGES)
def test_a_change_travels_unchanged_and_without_its_empty_end(change: Change) -> None:
    packed = change.pack()
    assert Change(*json.loads(json.dumps(packed))) == change
    assert len(packed) == 5 or packed[-1]
    assert packed == [getattr(change, f.name) for f in dataclasses.fields(Change)][: len(packed)]
