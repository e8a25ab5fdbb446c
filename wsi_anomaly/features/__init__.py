"""Frozen perceptual networks and their per-filter statistics."""
