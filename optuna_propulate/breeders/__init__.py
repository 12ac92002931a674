"""Breeders: propose offspring, and learn from every evaluation that their worker hears of."""

from optuna_propulate.breeders.base import Breeder
from optuna_propulate.breeders.base import Evaluation
from optuna_propulate.breeders.base import OperatorBreeder
from optuna_propulate.breeders.cma_es import CovarianceSampling
from optuna_propulate.breeders.conditional import InheritMissing
from optuna_propulate.breeders.context import BreedingContext
from optuna_propulate.breeders.defaults import default_breeder
from optuna_propulate.breeders.differential_evolution import DifferentialMutation
from optuna_propulate.breeders.duplicates import AvoidDuplicates
from optuna_propulate.breeders.litter import Litter
from optuna_propulate.breeders.operator_selection import CreditChoice
from optuna_propulate.breeders.parzen import ParzenSampling
from optuna_propulate.breeders.recombination import Recombination
from optuna_propulate.breeders.screening import Screening
from optuna_propulate.breeders.startup import WarmUp


__all__ = [
    "AvoidDuplicates",
    "Breeder",
    "BreedingContext",
    "CovarianceSampling",
    "CreditChoice",
    "DifferentialMutation",
    "Evaluation",
    "InheritMissing",
    "Litter",
    "OperatorBreeder",
    "ParzenSampling",
    "Recombination",
    "Screening",
    "WarmUp",
    "default_breeder",
]
