"""The sampler alone, in a script that knows Optuna and nothing else of this project."""

import optuna

from optuna_propulate import PropulateSampler


def objective(trial: optuna.Trial) -> float:
    """A conditional space: which parameters there are depends on the kind of model."""
    kind = trial.suggest_categorical("kind", ["linear", "network"])
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    if kind == "linear":
        return abs(rate - 1e-2) + 0.5
    units = [trial.suggest_int(f"units_{i}", 8, 256, log=True) for i in range(2)]
    return abs(rate - 1e-3) + abs(units[0] - 128) / 256 + abs(units[1] - 32) / 256


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=PropulateSampler(seed=1))
    study.optimize(objective, n_trials=200)
    print(f"Best: {study.best_value:.4f} with {study.best_params}")
