"""Rotary position embedding (Su et al. 2021): the angles, and how checkpoints stretch them to longer contexts.

Everything here is numpy, made once a batch beside the other indices; the rotation itself is `layers.attention`.
Reference: transformers.modeling_rope_utils.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pooling.settings import Settings

VARIANTS = ("default", "linear", "dynamic", "yarn", "llama3")


@dataclass(frozen=True)
class Rotary:
    """How far each pair of dimensions turns per position.

    Attributes:
        inverse_frequencies: radians per position, float32 [head_dim / 2].
        scale: what cosines and sines are multiplied by (YaRN's attention factor), else 1.
        dynamic: base, factor and trained length of "dynamic" scaling, which depends on a sequence's length; or None.
        axis_of: for each frequency the axis whose position turns it, int64 [head_dim / 2]; None: there is one axis.
    """

    inverse_frequencies: NDArray[np.float32]
    scale: float = 1.0
    dynamic: tuple[float, float, int] | None = None
    axis_of: NDArray[np.int64] | None = None

    def tables(
        self, positions: NDArray[np.int64], lengths: NDArray[np.int64], axes: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Cosines and sines of T packed tokens in sequences of these lengths, float32 [T, head_dim / 2] each.

        Args:
            positions: of each token, int64 [T].
            lengths: of each sequence, int64 [S].
            axes: the positions on each axis, int64 [axes, T]; None where they are the same on all.
        """
        turned_by = positions[:, None] if axes is None or self.axis_of is None else axes[self.axis_of].T
        angles = turned_by.astype(np.float32) * self._frequencies(lengths)
        scale = np.float32(self.scale)
        return np.cos(angles) * scale, np.sin(angles) * scale

    def _frequencies(self, lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [head_dim / 2], or [T, head_dim / 2] where they depend on the sequence."""
        if self.dynamic is None:
            return self.inverse_frequencies
        base, factor, trained = self.dynamic
        half = len(self.inverse_frequencies)
        rows = []
        for length in lengths:
            stretch = factor * max(int(length), trained) / trained - (factor - 1)
            rows.append(_inverse_frequencies(base * stretch ** (half / (half - 1)), 2 * half))
        return np.repeat(np.stack(rows), lengths, axis=0)


def rotary_of(settings: Settings, head_dim: int, *, layer_type: str | None = None, theta: float = 10_000.0) -> Rotary:
    """The rotary embedding that a configuration describes, in its new form (`rope_parameters`) or its old one.

    Args:
        settings: the language model's part of config.json.
        head_dim: dimensions of a head, all of which rotate.
        layer_type: which of several embeddings, where `rope_parameters` has one for each type of layer.
        theta: the base where the configuration has none.

    Raises:
        CheckpointError: a variant that is not in VARIANTS, or one of its numbers is missing.
    """
    scaling = settings.section("rope_parameters") or settings.section("rope_scaling") or Settings({}, settings.path)
    if layer_type is not None:
        scaling = scaling.section(layer_type) or scaling
    base = scaling.number("rope_theta", default=settings.number("rope_theta", default=theta))
    variant = scaling.text("rope_type", "type", default="default")
    if scaling.number("partial_rotary_factor", default=1.0) != 1.0:
        raise settings.refuse("partial_rotary_factor", scaling.get("partial_rotary_factor"), "use a model without it")
    plain = _inverse_frequencies(base, head_dim)
    if variant == "default" or variant == "mrope":
        return Rotary(plain, axis_of=_axes(scaling, head_dim))
    if variant == "linear":
        return Rotary(plain / np.float32(scaling.number("factor")))
    if variant == "dynamic":
        return Rotary(plain, dynamic=(base, scaling.number("factor"), settings.integer("max_position_embeddings")))
    if variant == "llama3":
        return Rotary(_llama3(plain, scaling, settings))
    if variant == "yarn":
        return _yarn(base, head_dim, scaling, settings)
    raise settings.refuse("rope_type", variant, f"use a model with one of {', '.join(VARIANTS)}")


def _axes(scaling: Settings, head_dim: int) -> NDArray[np.int64] | None:
    """Which of three axes (time, height, width) turns each frequency, by `mrope_section`; None without one.

    Qwen2-VL gives each axis a stretch of the frequencies (Wang et al. 2024); with `mrope_interleaved` (Qwen3-VL) they
    take turns, and what is left over is time's.
    """
    stated = scaling.get("mrope_section")
    if stated is None:
        return None
    half = head_dim // 2
    sections = [each for each in stated if isinstance(each, int)] if isinstance(stated, list) else []
    if len(sections) != 3 or sum(sections) != half:
        raise scaling.refuse("mrope_section", stated, f"it must be three numbers that add up to {half}")
    axes = np.zeros(half, dtype=np.int64)
    if scaling.flag("mrope_interleaved", default=False):
        for axis in (1, 2):
            axes[axis : 3 * sections[axis] : 3] = axis
    else:
        axes[:] = np.repeat(np.arange(3), sections)
    return axes


def axial(head_dim: int, base: float = 10_000.0) -> Rotary:
    """The rotary embedding of a vision tower: one half of a head's frequencies for height, the same again for width."""
    frequencies = _inverse_frequencies(base, head_dim // 2)
    half = len(frequencies)
    return Rotary(np.concatenate([frequencies, frequencies]), axis_of=np.repeat(np.arange(2), half))


def _inverse_frequencies(base: float, head_dim: int) -> NDArray[np.float32]:
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return np.asarray(1.0 / np.power(np.float32(base), exponents), dtype=np.float32)


def _llama3(plain: NDArray[np.float32], scaling: Settings, settings: Settings) -> NDArray[np.float32]:
    """Slow turns are slowed down by the factor, quick ones are left, those between are blended (Llama 3.1)."""
    factor = scaling.number("factor")
    low, high = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
    trained = scaling.number("original_max_position_embeddings", default=settings.integer("max_position_embeddings"))
    wavelength = 2 * math.pi / plain
    blend = (trained / wavelength - low) / (high - low)
    blended = (1 - blend) * plain / factor + blend * plain
    slow = np.where(wavelength > trained / low, plain / factor, plain)
    between = (wavelength >= trained / high) & (wavelength <= trained / low)
    return np.where(between, blended, slow).astype(np.float32)


def _yarn(base: float, head_dim: int, scaling: Settings, settings: Settings) -> Rotary:
    """YaRN (Peng et al. 2023): interpolate slow dimensions, keep quick ones, and warm the attention up."""
    stated = scaling.optional_integer("original_max_position_embeddings")
    trained = stated or settings.integer("max_position_embeddings")
    factor = scaling.number("factor", default=settings.integer("max_position_embeddings") / trained)

    def dimension_of(rotations: float) -> float:
        return head_dim * math.log(trained / (rotations * 2 * math.pi)) / (2 * math.log(base))

    low = dimension_of(scaling.number("beta_fast", default=32.0))
    high = dimension_of(scaling.number("beta_slow", default=1.0))
    if scaling.flag("truncate", default=True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = (np.arange(head_dim // 2, dtype=np.float32) - low) / ((high - low) or 0.001)
    kept = 1 - np.clip(ramp, 0, 1)
    plain = _inverse_frequencies(base, head_dim)
    frequencies = (plain / factor) * (1 - kept) + plain * kept
    return Rotary(frequencies.astype(np.float32), _yarn_scale(scaling, factor))


def _yarn_scale(scaling: Settings, factor: float) -> float:
    def warmth(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return scaling.number("attention_factor")
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return warmth(scaling.number("mscale")) / warmth(scaling.number("mscale_all_dim"))
    return warmth(1.0)
