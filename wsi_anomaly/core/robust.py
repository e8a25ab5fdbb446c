"""Spread that a few odd values do not move."""

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution in median absolute deviations."""
