"""A picture file to uint8 (3, H, W), and the column and class names of the picture data sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
IMAGE_COLUMNS, LABEL_COLUMNS = ("img", "image"), ("label", "labels", "fine_label")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


def read_picture(
    source: Path | str | bytes, size: tuple[int, int] = (32, 32)
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode a picture file (or its bytes) to RGB pixels, resized to (height, width) from the middle of the picture.

    Returns:
        uint8 (3, *size), and notes on what was converted (mode, alpha, size): empty for a plain picture.

    Raises:
        BadInput: the file is missing, unreadable or truncated.

    Examples:
        >>> import systolith as sl
        >>> pixels, notes = sl.read_picture("cat.png")
        >>> pixels.shape, pixels.dtype
        ((3, 32, 32), dtype('uint8'))
    """
    from PIL import Image, UnidentifiedImageError

    name = "picture bytes" if isinstance(source, bytes) else str(source)
    notes = []
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            if image.mode in ("I;16", "I;16B", "I;16L", "I"):
                values = np.asarray(image).astype(np.int64)
                if values.min() < 0 or values.max() > 65535:
                    raise BadInput(f"{name}: expected 8 or 16 bits a channel, found {values.min()}..{values.max()}")
                notes.append("converted from 16-bit greyscale to RGB, the upper 8 bits kept")
                picture = Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
            elif image.mode == "F":
                raise BadInput(f"{name}: expected integer pixels, found floating point")
            elif image.mode != "RGB":
                notes.append(f"converted from {image.mode} to RGB")
                if "A" in image.getbands() or "transparency" in image.info:
                    rgba = image.convert("RGBA")
                    white = Image.new("RGBA", rgba.size, "white")
                    picture = Image.alpha_composite(white, rgba).convert("RGB")
                    notes[-1] += ", transparent parts white"
                else:
                    picture = image.convert("RGB")
            else:
                picture = image.copy()
    except FileNotFoundError:
        raise BadInput(f"{name}: no such picture") from None
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
    ) as e:
        raise BadInput(f"{name}: not a readable picture, truncated or of another kind ({e})") from None
    wanted = size[1], size[0]
    if picture.size != wanted:
        width, height = picture.size
        # The largest part of the wanted proportions, from the middle.
        across = min(width, height * wanted[0] // wanted[1] or 1)
        down = min(height, width * wanted[1] // wanted[0] or 1)
        left, top = (width - across) // 2, (height - down) // 2
        part = "centre square" if across == down else "centre part"
        cut = f", {part}" if (across, down) != (width, height) else ""
        notes.append(f"resized from {width}x{height} to {wanted[0]}x{wanted[1]}{cut}")
        picture = picture.resize(wanted, Image.Resampling.BOX, (left, top, left + across, top + down))
    return np.ascontiguousarray(np.asarray(picture, dtype=np.uint8).transpose(2, 0, 1)), tuple(notes)
