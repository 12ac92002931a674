"""Evolution: genes, individuals, populations; pure, without study, MPI or storage."""
