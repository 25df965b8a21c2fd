"""Whisper's fixed numbers, which several rooms need; each has its home here alone."""

WINDOW_SECONDS = 30.0
"""Audio that a published Whisper takes at once (Radford et al. 2022, 2.2)."""
FRAMES_PER_SECOND = 100
"""Log-mel frames, 10 ms apart."""
WHISPER_FRAMES = 3000
"""Frames of a window."""
MAX_TOKENS = 448
"""Positions of the decoder."""
MAX_PROMPT_TOKENS = 223
"""What Whisper keeps of a previous text (448 // 2 - 1)."""
TIMESTAMP_STEP = 0.02
"""Seconds between two timestamp tokens."""
IGNORED = -100
"""A target without loss, as in PyTorch and Transformers."""
LOOP_RATIO = 2.4
"""Compression ratio over which Whisper calls a text a repetition (Radford et al. 2022, 4.5)."""
