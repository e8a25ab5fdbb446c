"""TODO ['learning']."""
