"""What ranks and the writer say to each other."""
