"""Decoding image files into one large array on disk, so that memory holds a few images only."""

import hashlib
import io
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lowbit.data._base import DataError

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_BLOCK = 512


def decode_into(target: Path, files: Sequence[Path], size: int, channels: int) -> tuple[np.ndarray, list[str]]:
    """Decode files in order into a new `.npy` file.

    Args:
        target: the file to make.
        files: image files.
        size: height and width: the largest centred square of an image, scaled with antialiasing (bilinear).
        channels: 3 for RGB, 1 for grey.

    Returns:
        The memory-mapped array, uint8 (N, channels, size, size), and the sha256 of each file.

    Raises:
        DataError: names the file that cannot be decoded, or says that the disk is too small.
    """
    from tqdm import tqdm

    needed, free = len(files) * channels * size**2, shutil.disk_usage(target.parent).free
    if needed > free:
        # Writing to a memory map on a full disk would kill the process (SIGBUS) without a message.
        raise DataError(f"{target.parent}: {needed:,} bytes needed, {free:,} free; make room or lower `size`")
    array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=(len(files), channels, size, size))
    hashes: list[str] = []

    def decode(index: int) -> str:
        array[index], digest = _decoded(files[index], size, channels)
        return digest

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, tqdm(total=len(files), disable=None) as bar:
        for start in range(0, len(files), _BLOCK):
            hashes += pool.map(decode, range(start, min(start + _BLOCK, len(files))))
            bar.update(len(hashes) - start)
    array.flush()
    return array, hashes


def _decoded(path: Path, size: int, channels: int) -> tuple[np.ndarray, str]:
    from PIL import Image, ImageOps

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if image.mode not in _MODES:
                raise DataError(f"{path}: image mode {image.mode}; must be 8 bits per channel: convert the file")
            square = ImageOps.fit(
                image.convert("RGB" if channels == 3 else "L"), (size, size), Image.Resampling.BILINEAR
            )
    except DataError:
        raise
    except Exception as error:
        # Pillow's decoders raise anything from OSError to SyntaxError and struct.error on a damaged file.
        raise DataError(f"{path}: cannot be decoded ({error}); replace or remove the file") from error
    pixels = np.asarray(square).reshape(size, size, channels)
    return pixels.transpose(2, 0, 1), hashlib.sha256(content).hexdigest()
