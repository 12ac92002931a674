"""``python -m optuna_propulate``: the command line."""

from optuna_propulate.cli.main import main


if __name__ == "__main__":
    main()
