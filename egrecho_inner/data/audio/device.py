"""Log-mel of a whole batch where the model is: for a GPU that is faster than the loader's processes are.

In: a batch whose `waves` (B, N) were padded with zeros, augmented but not transformed yet (`data.features: device`).
Out: the same batch with `input_features` (B, F, T) and `attention_mask` (B, T), equal to `features.log_mel` within the
rounding of float32. Power and filters are multiplied in double: a GPU's short products (TF32) would be off by 1e-3.
SpecAugment's masks were drawn with the cut (`augment.SpecMasks`) and are laid here.

Letters as in `features.py`.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from egrecho_inner.data.audio.augment import SpecMasks
from egrecho_inner.data.audio.features import DYNAMIC_RANGE, FLOOR, HOP, TAIL_FRAMES, WINDOW, mel_filters, num_frames
from egrecho_inner.text.constants import WHISPER_FRAMES


def transform(batch: dict[str, Any], n_mels: int, device: torch.device) -> None:
    """Replace the waves of a batch by features, in place; a batch that has features already is left as it is."""
    if "waves" not in batch:
        return
    waves, samples = batch.pop("waves").to(device), batch.pop("samples")
    masks, padded = batch.pop("masks"), batch.pop("padded")
    lengths = torch.tensor([min(num_frames(count), WHISPER_FRAMES) for count in samples.tolist()])
    width = WHISPER_FRAMES if padded else int(lengths.max())
    features = log_mel_padded(waves, width, n_mels)
    for row, (length, drawn) in enumerate(zip(lengths.tolist(), masks, strict=True)):
        if drawn is not None:
            lay_masks(features[row, :, :length], drawn)
        if padded == "zeros":
            features[row, :, length:] = 0.0
            continue
        end = length + TAIL_FRAMES if padded else length
        features[row, :, end:] = (features[row, :, :end].max() - DYNAMIC_RANGE).clamp(min=FLOOR)
    batch["input_features"] = features
    if not padded:
        batch["attention_mask"] = (torch.arange(width)[None] < lengths[:, None]).long().to(device)


def log_mel_padded(waves: Tensor, frames: int, n_mels: int) -> Tensor:
    """Compute features (B, M, T) of waves (B, N) that are zero behind their ends.

    Args:
        waves: At 16 kHz.
        frames: T; what is missing of it at the end is digital silence.
        n_mels: 80 or 128.
    """
    # the last windows reach over the end, and count towards the maximum; at 30 s there is no room: stft mirrors there
    window_frames = min(frames + TAIL_FRAMES, WHISPER_FRAMES)
    waves = torch.nn.functional.pad(waves, (0, window_frames * HOP - waves.shape[1]))  # or cut off
    window = torch.hann_window(WINDOW, device=waves.device)
    spectrum = torch.stft(waves, WINDOW, HOP, window=window, return_complex=True)[..., :window_frames]  # (B, 201, T)
    power = torch.view_as_real(spectrum).double().square().sum(-1)
    logarithm = (filters(n_mels, waves.device).T @ power).clamp(min=1e-10).log10()  # (B, M, T)
    scaled = ((logarithm + 4) / 4).float()
    scaled = scaled.maximum((scaled.amax((1, 2), keepdim=True) - DYNAMIC_RANGE).clamp(min=FLOOR))
    return scaled[..., :frames].contiguous()


def lay_masks(features: Tensor, masks: SpecMasks) -> None:
    """Warp and mask one utterance (M, T) in place, as `augment.spec_augment` does."""
    if masks.source is not None:
        low = masks.source.astype(int).clip(max=features.shape[1] - 2)
        share = torch.from_numpy(masks.source - low).to(features)
        low = torch.from_numpy(low).to(features.device)
        features.copy_(features[:, low] * (1 - share) + features[:, low + 1] * share)
    mean = features.mean()
    for begin, width in masks.times:
        features[:, begin : begin + width] = mean
    for begin, width in masks.bins:
        features[begin : begin + width] = mean


@lru_cache(maxsize=4)
def filters(n_mels: int, device: torch.device) -> Tensor:
    """Give Whisper's filters (201, M) in double on a device."""
    return torch.from_numpy(mel_filters(n_mels)).double().to(device)
