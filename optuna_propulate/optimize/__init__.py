"""Optimize: the budget, the loop that uses it up, and what ends it."""
