"""Questions to a trained addition model: what it answers, where its heads look, what breaks without them."""
