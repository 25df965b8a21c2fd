"""Checkpoints and results of a run: written, verified, continued, described."""
