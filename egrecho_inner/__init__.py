"""Adapt Whisper: Kaldi-style data in, a fine-tuned model and a word error rate one can trust out."""

__version__ = "0.1.0"
