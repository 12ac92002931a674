"""Search quality beside other samplers: ``python -m benchmarks.quality``."""
