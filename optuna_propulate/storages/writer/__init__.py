"""The writer's side: the one process of a job that writes trials into the database."""
