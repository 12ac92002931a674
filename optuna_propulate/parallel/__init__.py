"""Parallel: all of MPI that carries no individuals."""
