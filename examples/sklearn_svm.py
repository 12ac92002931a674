"""A support vector machine on the breast cancer data that scikit-learn ships.

``mpirun -n 4 python sklearn_svm.py``, or without mpirun; ``pip install scikit-learn`` first. Three
kernels have parameters of their own, so the search space is conditional.
"""

import argparse

import optuna
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import optuna_propulate


FEATURES, LABELS = load_breast_cancer(return_X_y=True)


def objective(trial: optuna.Trial) -> float:
    """Return the mean accuracy of five folds."""
    kernel = trial.suggest_categorical("kernel", ["linear", "rbf", "poly"])
    parameters = {"C": trial.suggest_float("C", 1e-3, 1e3, log=True)}
    if kernel != "linear":
        parameters["gamma"] = trial.suggest_float("gamma", 1e-5, 1e1, log=True)
    if kernel == "poly":
        parameters["degree"] = trial.suggest_int("degree", 2, 4)
    model = make_pipeline(StandardScaler(), SVC(kernel=kernel, **parameters))
    return float(cross_val_score(model, FEATURES, LABELS, cv=5).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--n-trials", type=int, default=200, help="(%(default)s)")
    flags = parser.parse_args()
    study = optuna_propulate.create_study(
        "sqlite:///svm.db", study_name="svm", direction="maximize", load_if_exists=True
    )
    study.optimize(objective, n_trials=flags.n_trials)
    print(f"Accuracy {study.best_value:.4f} with {study.best_params}")
