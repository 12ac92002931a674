"""Rosenbrock's function, by the sampler from OptunaHub; under ``mpirun`` the ranks exchange."""

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    """Rosenbrock's function."""
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


if __name__ == "__main__":
    module = optunahub.load_module("samplers/propulate")
    study = optuna.create_study(sampler=module.PropulateSampler())
    study.optimize(objective, n_trials=300)
    print(study.best_trial.value, study.best_trial.params)
