"""The transformers of the book as TransformerLens bridges, and their exact short forwards."""
