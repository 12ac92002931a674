"""Plotly figures of islands, drawn from what a study records."""

from optuna_propulate.visualization.archipelago import plot_archipelago


__all__ = ["plot_archipelago"]
