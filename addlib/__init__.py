"""Helpers for the book: how transformers do arithmetic."""

__version__ = "0.1.0"
