"""Operators: stateless maps of individuals to individuals, which compose."""

from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import Pipeline
from optuna_propulate.operators.crossover import BoltzmannCrossover
from optuna_propulate.operators.crossover import MultiParentCrossover
from optuna_propulate.operators.crossover import UniformCrossover
from optuna_propulate.operators.initialization import RandomInitialization
from optuna_propulate.operators.mutation import IntervalMutation
from optuna_propulate.operators.mutation import PointMutation
from optuna_propulate.operators.propulate import crossover_and_mutation
from optuna_propulate.operators.propulate import propulate_defaults
from optuna_propulate.operators.selection import SelectBest
from optuna_propulate.operators.selection import SelectTournament
from optuna_propulate.operators.selection import SelectUniform
from optuna_propulate.operators.selection import SelectWorst
from optuna_propulate.operators.self_adaptation import SelfAdaptiveMutation


__all__ = [
    "BoltzmannCrossover",
    "IntervalMutation",
    "MultiParentCrossover",
    "Operator",
    "Pipeline",
    "PointMutation",
    "RandomInitialization",
    "SelectBest",
    "SelectTournament",
    "SelectUniform",
    "SelectWorst",
    "SelfAdaptiveMutation",
    "UniformCrossover",
    "crossover_and_mutation",
    "propulate_defaults",
]
