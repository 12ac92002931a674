"""One study, as many processes as there are: ``mpirun -n 4 python quickstart.py``, or without."""

import optuna

import optuna_propulate


def objective(trial: optuna.Trial) -> float:
    """Rosenbrock's function."""
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


study = optuna_propulate.create_study("sqlite:///quickstart.db", study_name="quickstart")
study.optimize(objective, n_trials=1000)
