"""Storages: how trials travel to the RDB."""
