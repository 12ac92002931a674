"""Plotly figures of islands, workers and lineages, drawn from what a study records."""

from optuna_propulate.visualization.archipelago import plot_archipelago
from optuna_propulate.visualization.best_values import plot_best_values
from optuna_propulate.visualization.lineage import plot_lineage
from optuna_propulate.visualization.migration_flows import plot_migration_flows
from optuna_propulate.visualization.operator_success import plot_operator_success
from optuna_propulate.visualization.worker_timeline import plot_worker_timeline


__all__ = [
    "plot_archipelago",
    "plot_best_values",
    "plot_lineage",
    "plot_migration_flows",
    "plot_operator_success",
    "plot_worker_timeline",
]
