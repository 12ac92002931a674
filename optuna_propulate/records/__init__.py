"""Records: what a study remembers of islands, workers, lineage and migrations."""
