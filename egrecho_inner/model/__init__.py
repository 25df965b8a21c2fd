"""Models: variable-length Whisper and its adapters."""
