"""Features made beside the model are those of the loader's processes, masks and all, at any length up to 30 s."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import speech_cuts, tiny_processor

from egrecho_inner.data.audio.augment import Augmenter
from egrecho_inner.data.audio.device import log_mel_padded
from egrecho_inner.data.audio.features import collate_features, log_mel, num_frames
from egrecho_inner.data.batches.cut_list import CutList
from egrecho_inner.data.batches.log_mel import LogMel, LogMelOnDevice
from egrecho_inner.data.batches.options import AugmentOptions, MusanOptions, SpecAugmentOptions, VolumeOptions
from egrecho_inner.data.batches.plan import Batch
from egrecho_inner.data.batches.tensors import CutBatches
from egrecho_inner.errors import ConfigError, DataError
from egrecho_inner.text.constants import WHISPER_FRAMES
from egrecho_inner.text.labels import LabelEncoder

CPU = torch.device("cpu")


@pytest.mark.parametrize("n_mels", [80, 128])
def test_waves_of_all_lengths_give_the_same_features(n_mels: int) -> None:
    rng = np.random.default_rng(0)
    lengths = [4000, 16079, 16080, 48123, 479_700, 479_900, 480_000]
    waves = [(rng.standard_normal(n) * 10 ** rng.uniform(-4, -1)).astype(np.float32) for n in lengths]
    for upto in (4, len(waves)):
        padded = torch.zeros(upto, max(lengths[:upto]))
        for row, wave in zip(padded, waves[:upto], strict=True):
            row[: len(wave)] = torch.from_numpy(wave)
        frames = num_frames(padded.shape[1])
        found = log_mel_padded(padded, frames, n_mels)
        feats = [log_mel(wave, n_mels, tail=2) for wave in waves[:upto]]
        wanted, _ = collate_features(feats, [num_frames(n) for n in lengths[:upto]], WHISPER_FRAMES)
        for row, want, length in zip(found, wanted, lengths, strict=False):
            own = num_frames(length)
            assert torch.allclose(row[:, :own], want[:, :own], atol=2e-4), length
            assert (row[:, :own] - want[:, :own]).abs().mean() < 1e-6


def batches(manifest: Path, waves: bool) -> CutBatches:
    labels = LabelEncoder(tiny_processor().tokenizer, "en", "transcribe", True)
    options = AugmentOptions(volume=VolumeOptions(1.0), spec_augment=SpecAugmentOptions(probability=0.7, time_warp=5))
    inputs = (LogMelOnDevice if waves else LogMel)(80)
    return CutBatches(CutList([str(manifest)]), labels, inputs, Augmenter(options, 5))


@pytest.mark.parametrize("padded", [False, True])
def test_a_batch_is_the_loaders_batch(tmp_path: Path, padded: bool) -> None:
    manifest = speech_cuts(tmp_path, n=6)
    wanted = batches(manifest, False)[Batch(2, np.arange(6), padded)]
    made = batches(manifest, True)
    found = made[Batch(2, np.arange(6), padded)]
    made.inputs.to_device(found.inputs, CPU)
    assert found.inputs.keys() == wanted.inputs.keys()
    for name, value in wanted.inputs.items():
        if name == "input_features":
            assert (found.inputs[name] - value).abs().max() < 1e-3  # float32's rounding at the floor of a quiet frame
            assert (found.inputs[name] - value).abs().mean() < 1e-5
        else:
            assert torch.equal(found.inputs[name], value), name
    assert found[1:] == wanted[1:] and found.padded_seconds == wanted.padded_seconds


def test_a_batch_without_a_usable_cut_is_silence(tmp_path: Path) -> None:
    made = batches(speech_cuts(tmp_path, n=2), True)

    def fail(*_: object) -> None:
        raise DataError("broken")

    made.inputs.load = fail
    batch = made[Batch(0, np.arange(2), False)]
    made.inputs.to_device(batch.inputs, CPU)
    assert batch.inputs["input_features"].shape == (1, 80, 100)
    assert (batch.inputs["labels"] == -100).all() and len(batch.skipped) == 2


def test_stored_noise_is_refused(tmp_path: Path) -> None:
    made = batches(speech_cuts(tmp_path, n=2), False)
    made.augmenter.options = AugmentOptions(musan=MusanOptions(cuts="x", stored=True))
    with pytest.raises(ConfigError, match=r"musan\.stored"):
        LogMelOnDevice(80).check(made.cuts[0], made.augmenter)
