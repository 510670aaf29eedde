"""Exact and fast activation patching of any TransformerLens bridge."""
