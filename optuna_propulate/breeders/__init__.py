"""Breeders: propose offspring, and learn from every evaluation that their worker hears of."""

from optuna_propulate.breeders.cma_es import CovarianceSampling
from optuna_propulate.breeders.conditional import InheritMissing
from optuna_propulate.breeders.context import BreedingContext
from optuna_propulate.breeders.defaults import crossover_and_mutation
from optuna_propulate.breeders.defaults import default_operator
from optuna_propulate.breeders.defaults import propulate_defaults
from optuna_propulate.breeders.differential_evolution import DifferentialMutation
from optuna_propulate.breeders.duplicates import AvoidDuplicates
from optuna_propulate.breeders.operator_selection import CreditChoice
from optuna_propulate.breeders.parzen import ParzenSampling
from optuna_propulate.breeders.startup import WarmUp


__all__ = [
    "AvoidDuplicates",
    "BreedingContext",
    "CovarianceSampling",
    "CreditChoice",
    "DifferentialMutation",
    "InheritMissing",
    "ParzenSampling",
    "WarmUp",
    "crossover_and_mutation",
    "default_operator",
    "propulate_defaults",
]
