"""Islands: who lives where, who travels where, and one worker's view of it."""

from optuna_propulate.islands.archipelago import Archipelago
from optuna_propulate.islands.archipelago import assign_workers
from optuna_propulate.islands.archipelago import default_population_size
from optuna_propulate.islands.island import Departure
from optuna_propulate.islands.island import Island
from optuna_propulate.islands.migration import Migration
from optuna_propulate.islands.migration import MigrationPolicy
from optuna_propulate.islands.migration import Pollination
from optuna_propulate.islands.topology import resolve_topology
from optuna_propulate.records.migrations import MigrationRecord
from optuna_propulate.records.migrations import migrations


__all__ = [
    "Archipelago",
    "Departure",
    "Island",
    "Migration",
    "MigrationPolicy",
    "MigrationRecord",
    "Pollination",
    "assign_workers",
    "default_population_size",
    "migrations",
    "resolve_topology",
]
