"""Adapt Whisper: Kaldi-style data in, a fine-tuned model and a word error rate one can trust out."""

import os

__version__ = "0.1.0"

# Read when torch, tokenizers and lhotse are first imported, hence here, before any of them can be.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning OpenMP threads slow a busy CPU machine 30-fold
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads and forked data workers do not mix
os.environ.setdefault(
    "LHOTSE_AUDIO_DURATION_MISMATCH_TOLERANCE", "0.025"
)  # its 0.5 s would accept wrong headers silently
