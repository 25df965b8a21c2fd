"""Speech from text with eSpeak NG, through ctypes: text and a voice in, int16 samples at 22,050 Hz out.

The library and its voices come in the wheel `espeakng-loader` (extra `mini`). eSpeak NG is free software under the
GPL-3.0; it is loaded as a separate library and no part of it is copied here. Only what the corpus needs is bound:
synchronous synthesis with a voice, a rate and a pitch. No SSML, no phoneme events, no playback.

eSpeak keeps state between utterances (see `make_corpus.py` for how the corpus stays the same under any number of jobs).
"""

import ctypes
from functools import lru_cache

import numpy as np

from egrecho_inner.errors import DataError, MachineError

SAMPLE_RATE = 22_050

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when all samples went through the callback
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report a missing data folder instead of ending the process
_CHARS_UTF8 = 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_BUFFER_MS = 200

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def synthesize(
    text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50, pitch_range: int = 50
) -> tuple[np.ndarray, int]:
    """Speak a text.

    Args:
        text: what to say; commas and full stops make pauses.
        voice: eSpeak voice name, with a variant if wanted: `en-us`, `en-gb-x-rp+f3`, `de+klatt`.
        rate: words per minute, 80 to 450.
        pitch: base pitch, 0 to 100.
        pitch_range: intonation, 0 (monotone) to 100.

    Returns:
        int16 samples (num_samples,) and their rate, 22,050 Hz.
    """
    engine = _engine()
    engine.set_voice(voice)
    return engine.speak(text, {_RATE: rate, _VOLUME: 100, _PITCH: pitch, _RANGE: pitch_range}), SAMPLE_RATE


def version() -> str:
    """Return the version of the eSpeak NG library in use, such as `1.52.0`."""
    return _engine().version


class _Engine:
    """The one eSpeak of this process; the library is a singleton with global state."""

    def __init__(self) -> None:
        try:
            import espeakng_loader  # optional: only egs/mini needs it
        except ImportError:
            raise MachineError(
                "eSpeak NG is missing (package espeakng-loader); install it with `pip install espeakng-loader`"
            ) from None
        self._lib = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        self._declare()
        data = str(espeakng_loader.get_data_path())
        rate = self._lib.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.encode(), _DONT_EXIT)
        if rate != SAMPLE_RATE:
            raise MachineError(
                f"eSpeak NG did not start with the voices of {data} (answer {rate}); reinstall espeakng-loader"
            )
        self._chunks: list[np.ndarray] = []
        self._callback = _Callback(self._collect)  # kept: ctypes does not hold a reference for the C side
        self._lib.espeak_SetSynthCallback(self._callback)
        self._lib.espeak_ng_SetRandSeed(1)  # breath noise; the library seeds it with the time of day
        self._voice = ""
        self.version = self._lib.espeak_Info(None).decode().split()[0]

    def _declare(self) -> None:
        lib = self._lib
        lib.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
        lib.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        lib.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
        lib.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        lib.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        lib.espeak_Info.argtypes = [ctypes.c_void_p]
        lib.espeak_Info.restype = ctypes.c_char_p

    def _collect(self, samples, count: int, _events) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def set_voice(self, voice: str) -> None:
        if voice == self._voice:
            return
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            self._voice = ""
            raise DataError(f"eSpeak NG has no voice {voice!r}; names look like en-us, en-gb-x-rp+f3 or de+klatt")
        self._voice = voice

    def speak(self, text: str, parameters: dict[int, int]) -> np.ndarray:
        for parameter, value in parameters.items():
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._chunks = []
        encoded = text.encode() + b"\0"
        status = self._lib.espeak_Synth(encoded, len(encoded), 0, 0, 0, _CHARS_UTF8, None, None)
        if status != 0 or not self._chunks:
            raise MachineError(f"eSpeak NG made no speech for {text!r} with voice {self._voice!r} (answer {status})")
        return np.concatenate(self._chunks)


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()
