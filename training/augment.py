"""Dynamic augmentation of prepared slices.

Owns: random changes that keep the label: geometry, intensity, loss of quality, marks. Refuses: to know labels. Every
change strikes every class alike, so that blur, compression, borders, letters or brightness cannot tell from which
collection a slice comes. Intensities are never inverted: bright against dark tissue is what contrast agent shows.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Strengths and rates; zero switches a change off.

    Attributes:
        rotation_deg: Largest rotation either way.
        zoom: Largest change of scale, as a factor minus one, either way.
        aspect: Largest change of the ratio of the sides, either way.
        shear: Largest shear, as a slope.
        shift: Largest shift, as a fraction of the side.
        flip_rate: Rate of mirroring left and right.
        gamma: Standard deviation of the logarithm of the exponent.
        contrast: Largest change of contrast, either way, around the mean.
        brightness: Largest added level.
        bias_rate: Rate of a smooth multiplicative field, as coils make it.
        noise_rate: Rate of Gaussian noise; its deviation is drawn up to 0.06.
        blur_rate: Rate of a Gaussian blur with a sigma up to 1.2 pixels.
        sharpen_rate: Rate of unsharp masking.
        degrade_rate: Rate of making the picture smaller and enlarging it again.
        jpeg_rate: Rate of a JPEG compression with a quality from 25 to 90.
        erase_rate: Rate of erasing one rectangle.
        marks_rate: Rate of letters, ruler lines or frames near the border.
        trim_rate: Rate of cutting off a strip at one side.
    """

    rotation_deg: float = 20.0
    zoom: float = 0.18
    aspect: float = 0.08
    shear: float = 0.08
    shift: float = 0.06
    flip_rate: float = 0.5
    gamma: float = 0.25
    contrast: float = 0.2
    brightness: float = 0.08
    bias_rate: float = 0.3
    noise_rate: float = 0.35
    blur_rate: float = 0.2
    sharpen_rate: float = 0.15
    degrade_rate: float = 0.3
    jpeg_rate: float = 0.4
    erase_rate: float = 0.2
    marks_rate: float = 0.15
    trim_rate: float = 0.1


def augment(image: UInt8, size: int, settings: Augmentation, rng: np.random.Generator) -> Float32:
    """One random view of a slice.

    Args:
        image: uint8 (s, s), a prepared slice times 255; s may be larger than `size`, so that zooming in loses nothing.
        size: Side of the result.
        settings: Strengths and rates.
        rng: The source of chance; the same generator state gives the same view.

    Returns:
        float32 (size, size), range [0, 1].
    """
    view = _geometry(image, size, settings, rng)
    view = _quality(view, settings, rng)
    view = _intensity(view, settings, rng)
    return _marks(view, settings, rng)


def _geometry(image: UInt8, size: int, settings: Augmentation, rng: np.random.Generator) -> Float32:
    """Rotation, zoom, aspect, shear, shift and flip as one resampling."""
    side = image.shape[0]
    angle = np.deg2rad(rng.uniform(-settings.rotation_deg, settings.rotation_deg))
    scale = np.exp(rng.uniform(-1, 1) * np.log1p(settings.zoom)) * size / side
    stretch = np.exp(rng.uniform(-1, 1) * np.log1p(settings.aspect) / 2)
    shear = rng.uniform(-settings.shear, settings.shear)
    shift = rng.uniform(-settings.shift, settings.shift, 2) * size
    mirror = -1.0 if rng.random() < settings.flip_rate else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag([mirror * scale * stretch, scale / stretch])
    offset = np.full(2, (size - 1) / 2) + shift - matrix @ np.full(2, (side - 1) / 2)
    moved = cv2.warpAffine(
        image, np.column_stack([matrix, offset]), (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    return moved.astype(np.float32) * np.float32(1 / 255)


def _quality(view: Float32, settings: Augmentation, rng: np.random.Generator) -> Float32:
    """Loss of resolution, blur, sharpening, noise, compression."""
    size = view.shape[0]
    changed: npt.NDArray[Any] = view
    if rng.random() < settings.degrade_rate:
        small = max(8, round(size * rng.uniform(0.4, 0.9)))
        way = cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
        back = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_CUBIC
        changed = cv2.resize(cv2.resize(changed, (small, small), interpolation=way), (size, size), interpolation=back)
    if rng.random() < settings.blur_rate:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < settings.sharpen_rate:
        amount = rng.uniform(0.3, 1.2)
        changed = cv2.addWeighted(changed, 1 + amount, cv2.GaussianBlur(changed, (0, 0), 1.0), -amount, 0)
    if rng.random() < settings.noise_rate:
        noise = rng.standard_normal(changed.shape, dtype=np.float32) * np.float32(rng.uniform(0.005, 0.06))
        # Half of the time only where there is tissue: flattened backgrounds are noiseless in use.
        changed = changed + noise * (changed > 0.02) if rng.random() < 0.5 else changed + noise
    changed = np.clip(changed, 0, 1)
    if rng.random() < settings.jpeg_rate:
        quality = int(rng.integers(25, 91))
        _, code = cv2.imencode(".jpg", (changed * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
        changed = np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.float32) * np.float32(1 / 255)
    return np.asarray(changed, np.float32)


def _intensity(view: Float32, settings: Augmentation, rng: np.random.Generator) -> Float32:
    """Coil field, exponent, contrast, brightness."""
    if rng.random() < settings.bias_rate:
        coarse = np.exp(rng.normal(0, 0.25, (3, 3))).astype(np.float32)
        view = view * cv2.resize(coarse, view.shape[::-1], interpolation=cv2.INTER_CUBIC)
    if settings.gamma:
        view = np.asarray(cv2.pow(np.clip(view, 0, 1), float(np.exp(rng.normal(0, settings.gamma)))), np.float32)
    tissue = view > 0.02
    mean = float(view.mean())
    gain = 1 + rng.uniform(-settings.contrast, settings.contrast)
    added = rng.uniform(-settings.brightness, settings.brightness)
    changed = (view - mean) * np.float32(gain) + np.float32(mean + added)
    return np.asarray(np.clip(np.where(tissue, changed, view), 0, 1), np.float32)


def _marks(view: Float32, settings: Augmentation, rng: np.random.Generator) -> Float32:
    """Erased rectangles, cut strips, letters, ruler lines and frames."""
    size = view.shape[0]
    view = np.ascontiguousarray(view)
    if rng.random() < settings.trim_rate:
        width = int(rng.integers(1, max(2, size // 10)))
        view = np.rot90(view, -(turns := int(rng.integers(4)))).copy()
        view[:width] = 0
        view = np.ascontiguousarray(np.rot90(view, turns))
    if rng.random() < settings.erase_rate:
        height, width = (int(size * rng.uniform(0.06, 0.22)) for _ in range(2))
        y, x = int(rng.integers(0, size - height)), int(rng.integers(0, size - width))
        view[y : y + height, x : x + width] = 0 if rng.random() < 0.5 else rng.uniform(0, 0.6)
    if rng.random() < settings.marks_rate:
        _draw_mark(view, rng)
    return view


def _draw_mark(view: Float32, rng: np.random.Generator) -> None:
    """Draw one mark in place, within the outer seventh of the picture."""
    size = view.shape[0]
    level = float(rng.uniform(0.5, 1.0))
    edge = max(8, size // 7)
    kind = int(rng.integers(3))
    if kind == 0:
        text = "".join(rng.choice(list("ALRPHFSI0123456789:. "), int(rng.integers(1, 9))))
        at = (int(rng.integers(0, size - edge)), int(rng.integers(6, edge)))
        if rng.random() < 0.5:
            at = (at[0], size - at[1] + 6)
        canvas = np.zeros(view.shape, np.uint8)  # letters are drawn on eight-bit pictures only
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.2, 0.4)), level * 255, 1)
        np.maximum(view, canvas.astype(np.float32) / 255, out=view)
    elif kind == 1:
        x = int(rng.integers(0, edge))
        x = x if rng.random() < 0.5 else size - 1 - x
        start, end = sorted(int(value) for value in rng.integers(0, size, 2))
        first, last = ((x, start), (x, end)) if rng.random() < 0.5 else ((start, x), (end, x))
        cv2.line(view, first, last, level, int(rng.integers(1, 3)))
    else:
        inset = int(rng.integers(0, edge // 3 + 1))
        cv2.rectangle(view, (inset, inset), (size - 1 - inset, size - 1 - inset), level, int(rng.integers(1, 3)))


def view_batch(images: UInt8, size: int, settings: Augmentation, rng: np.random.Generator) -> Float32:
    """One random view of each slice.

    Args:
        images: uint8 (n, s, s).
        size: Side of the views.
        settings: Strengths and rates.
        rng: The source of chance.

    Returns:
        float32 (n, size, size, 1), range [0, 1].
    """
    return np.stack([augment(image, size, settings, rng) for image in images])[..., None]


def mix(images: Float32, targets: Float32, alpha: float, rate: float, rng: np.random.Generator) -> tuple[Any, Any]:
    """Mixup (Zhang et al., ICLR 2018) within a batch.

    Args:
        images: float32 (n, s, s, 1).
        targets: float32 (n, k), rows adding up to 1.
        alpha: Both parameters of the beta distribution.
        rate: Rate at which a batch is mixed at all.
        rng: The source of chance.

    Returns:
        Images and targets of the same shapes.
    """
    if alpha <= 0 or rng.random() >= rate:
        return images, targets
    order = rng.permutation(len(images))
    share = rng.beta(alpha, alpha, len(images)).astype(np.float32)
    share = np.maximum(share, 1 - share)
    wide = share[:, None, None, None]
    return (
        images * wide + images[order] * (1 - wide),
        targets * share[:, None] + targets[order] * (1 - share[:, None]),
    )
