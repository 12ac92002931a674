"""SQL: bulk reads and writes of Optuna's tables, and what each database needs for them."""
