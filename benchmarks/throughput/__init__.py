"""Trials a second beside other storages: ``python -m benchmarks.throughput``."""
