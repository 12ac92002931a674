"""Who takes part in the throughput benchmark, and with how many trials."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.throughput.contenders import BULK
from benchmarks.throughput.contenders import BULK_CORE
from benchmarks.throughput.contenders import GRPC
from benchmarks.throughput.contenders import JOURNAL
from benchmarks.throughput.contenders import MEMORY
from benchmarks.throughput.contenders import NSGA
from benchmarks.throughput.contenders import OURS
from benchmarks.throughput.contenders import PROPULATE
from benchmarks.throughput.contenders import RANDOM
from benchmarks.throughput.contenders import Contender
from benchmarks.throughput.databases import POSTGRESQL
from benchmarks.throughput.databases import SQLITE


@dataclass(frozen=True)
class Budgets:
    """How many trials a run has, for 2 parameters and for 10.

    Optuna's RDB storage does a hundred trials a second, whatever their number, so that its runs
    are short; those of ours are long enough for the last flush to weigh little.
    """

    ours: dict[int, int]
    memory: dict[int, int]
    rdb: dict[int, int]
    journal: dict[int, int]
    grpc: dict[int, int]
    short: int
    long: int
    lasting: int
    processes: tuple[int, ...] = (1, 2, 4)
    parameters: tuple[int, ...] = (2, 10)


FULL = Budgets(
    ours={2: 20_000, 10: 10_000},
    memory={2: 10_000, 10: 5000},
    rdb={2: 300, 10: 60},
    journal={2: 1000, 10: 300},
    grpc={2: 60, 10: 20},
    short=5000,
    long=20_000,
    lasting=200_000,
)
QUICK = Budgets(
    ours={2: 400},
    memory={2: 200},
    rdb={2: 8},
    journal={2: 20},
    grpc={2: 4},
    short=100,
    long=400,
    lasting=4000,
    processes=(2,),
    parameters=(2,),
)


def headline(budgets: Budgets) -> dict[str, Contender]:
    """Return the contenders that the ratios are about, by the names that those use."""
    n, n_rdb = budgets.ours[2], budgets.rdb[2]
    return {
        "ours, PostgreSQL": Contender(OURS, POSTGRESQL, 2, 2, n),
        "random, PostgreSQL": Contender(RANDOM, POSTGRESQL, 2, 2, n_rdb),
        "bulk, PostgreSQL": Contender(BULK, POSTGRESQL, 2, 1, n),
        "ours, SQLite": Contender(OURS, SQLITE, 2, 2, n),
        "random, SQLite": Contender(RANDOM, SQLITE, 2, 2, n_rdb),
        "core, SQLite": Contender(BULK_CORE, SQLITE, 2, 1, n),
        "bulk, SQLite": Contender(BULK, SQLITE, 2, 1, n),
        "ours, short": Contender(OURS, SQLITE, 2, 2, budgets.short),
        "propulate, short": Contender(PROPULATE, "none", 2, 2, budgets.short),
        "propulate, long": Contender(PROPULATE, "none", 2, 2, budgets.long),
        "ours, memory": Contender(OURS, MEMORY, 2, 1, budgets.memory[2]),
        "random, memory": Contender(RANDOM, MEMORY, 2, 1, budgets.memory[2]),
    }


def grid(budgets: Budgets) -> list[Contender]:
    """Return the other contenders: each sampler on each storage, for each size."""
    others: list[Contender] = []
    for p in budgets.parameters:
        for n in budgets.processes:
            for storage in (SQLITE, POSTGRESQL):
                others.append(Contender(OURS, storage, p, n, budgets.ours[p]))
                for sampler in (RANDOM, NSGA):
                    others.append(Contender(sampler, storage, p, n, budgets.rdb[p]))
            others.append(Contender(RANDOM, JOURNAL, p, n, budgets.journal[p]))
            others.append(Contender(RANDOM, GRPC, p, n, budgets.grpc[p]))
            others.append(Contender(PROPULATE, "none", p, n, budgets.short))
        for sampler in (OURS, RANDOM, NSGA):
            others.append(Contender(sampler, MEMORY, p, 1, budgets.memory[p]))
        for storage in (SQLITE, POSTGRESQL):
            for sampler in (BULK_CORE, BULK):
                others.append(Contender(sampler, storage, p, 1, budgets.ours[p]))
    known = set(headline(budgets).values())
    return [contender for contender in others if contender not in known]


def lasting(budgets: Budgets, *, flat: bool, memory: bool) -> dict[str, Contender]:
    """Return the contenders of the long runs: whether the cost grows, and whether memory does."""
    many = Contender(OURS, SQLITE, 2, 2, budgets.lasting)
    few = Contender(OURS, SQLITE, 2, 2, budgets.lasting // 10)
    return {"few": few, "many": many} if memory else {"many": many} if flat else {}
