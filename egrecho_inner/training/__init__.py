"""Training: the one `fit()` and its checkpoints."""
