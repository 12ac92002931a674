"""Operators: small objects that map individuals to individuals, and compose."""

from optuna_propulate.operators.base import Operator
from optuna_propulate.operators.base import Pipeline
from optuna_propulate.operators.choice import CreditChoice
from optuna_propulate.operators.covariance import CovarianceSampling
from optuna_propulate.operators.crossover import BoltzmannCrossover
from optuna_propulate.operators.crossover import MultiParentCrossover
from optuna_propulate.operators.crossover import UniformCrossover
from optuna_propulate.operators.defaults import crossover_and_mutation
from optuna_propulate.operators.defaults import default_operator
from optuna_propulate.operators.defaults import propulate_defaults
from optuna_propulate.operators.differential import DifferentialMutation
from optuna_propulate.operators.initialization import RandomInitialization
from optuna_propulate.operators.initialization import WarmUp
from optuna_propulate.operators.knowledge import Knowledge
from optuna_propulate.operators.mutation import IntervalMutation
from optuna_propulate.operators.mutation import PointMutation
from optuna_propulate.operators.parzen import ParzenSampling
from optuna_propulate.operators.selection import SelectBest
from optuna_propulate.operators.selection import SelectTournament
from optuna_propulate.operators.selection import SelectUniform
from optuna_propulate.operators.selection import SelectWorst
from optuna_propulate.operators.self_adaptation import SelfAdaptiveMutation
from optuna_propulate.operators.wrapping import AvoidDuplicates
from optuna_propulate.operators.wrapping import InheritMissing


__all__ = [
    "AvoidDuplicates",
    "BoltzmannCrossover",
    "CovarianceSampling",
    "CreditChoice",
    "DifferentialMutation",
    "InheritMissing",
    "IntervalMutation",
    "Knowledge",
    "MultiParentCrossover",
    "Operator",
    "ParzenSampling",
    "Pipeline",
    "PointMutation",
    "RandomInitialization",
    "SelectBest",
    "SelectTournament",
    "SelectUniform",
    "SelectWorst",
    "SelfAdaptiveMutation",
    "UniformCrossover",
    "WarmUp",
    "crossover_and_mutation",
    "default_operator",
    "propulate_defaults",
]
