"""Data: from Kaldi directories and audio files to batches of tensors."""
