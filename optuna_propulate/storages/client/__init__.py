"""A rank's side: its trials in memory, and its connection to the writer."""
