"""Decoding: cuts and a model in, hypotheses out."""
