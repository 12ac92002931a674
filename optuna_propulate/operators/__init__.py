"""Operators: small objects that map individuals to individuals, and compose."""

from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import Pipeline
from optuna_propulate.operators.crossover import UniformCrossover
from optuna_propulate.operators.defaults import default_operator
from optuna_propulate.operators.defaults import propulate_defaults
from optuna_propulate.operators.initialization import RandomInitialization
from optuna_propulate.operators.initialization import WarmUp
from optuna_propulate.operators.mutation import IntervalMutation
from optuna_propulate.operators.mutation import PointMutation
from optuna_propulate.operators.selection import SelectBest
from optuna_propulate.operators.selection import SelectTournament
from optuna_propulate.operators.selection import SelectUniform
from optuna_propulate.operators.selection import SelectWorst


__all__ = [
    "IntervalMutation",
    "Operator",
    "Pipeline",
    "PointMutation",
    "RandomInitialization",
    "SelectBest",
    "SelectTournament",
    "SelectUniform",
    "SelectWorst",
    "UniformCrossover",
    "WarmUp",
    "default_operator",
    "propulate_defaults",
]
