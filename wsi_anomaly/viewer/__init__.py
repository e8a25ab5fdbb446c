"""TODO ['viewer']."""
