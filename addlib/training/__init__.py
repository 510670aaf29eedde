"""Configurations, training loops, and finished runs from the cache."""
