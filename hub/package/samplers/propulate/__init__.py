"""Propulate's asynchronous island evolution, for OptunaHub; the package does the work."""

from optuna_propulate import Migration
from optuna_propulate import Pollination
from optuna_propulate import PropulateSampler


__all__ = ["Migration", "Pollination", "PropulateSampler"]
