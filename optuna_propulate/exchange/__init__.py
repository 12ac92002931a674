"""Exchanges: how individuals travel between workers."""
