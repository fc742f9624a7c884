"""LFM2-VL: a picture of its own shape within a number of tokens, a large one in square tiles and as a thumbnail."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import ImagesKwargs
from transformers.utils.constants import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from deltaprune.hosted.processors import PicturesOnly, registry
from deltaprune.hosted.processors._tensors import TensorPictures, normalised, patches, resized

Size = tuple[int, int]  # height and width


class Lfm2Settings(ImagesKwargs, total=False):
    """As in the folder's file; tokens are visual tokens, of downsample_factor x downsample_factor patches each."""

    downsample_factor: int
    do_image_splitting: bool
    min_tiles: int
    max_tiles: int
    use_thumbnail: bool
    min_image_tokens: int
    max_image_tokens: int
    encoder_patch_size: int
    tile_size: int
    max_pixels_tolerance: float
    return_row_col_info: bool


class Lfm2VlImageProcessor(TensorPictures):
    """Outputs: patches `(tiles, N, 3 p^2)` with zeros behind those of a tile, their mask, and each tile's rows and
    columns of patches.
    """

    downsample_factor = 2
    do_image_splitting = True
    min_tiles = 2
    max_tiles = 10
    use_thumbnail = True
    min_image_tokens = 64
    max_image_tokens = 256
    encoder_patch_size = 16
    tile_size = 512
    max_pixels_tolerance = 2.0
    resample = PILImageResampling.BILINEAR
    rescale_factor = 1 / 255
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    return_row_col_info = False
    valid_kwargs = Lfm2Settings
    model_input_names: ClassVar[list[str]] = ["pixel_values", "pixel_attention_mask", "spatial_shapes"]
    told = ("image_rows", "image_cols", "image_sizes")

    def pictures(self, images: Sequence[Tensor], settings: dict[str, Any]) -> dict[str, Any]:
        """As above, and under `told` each picture's rows and columns of tiles and its size as a whole."""
        side, split = settings["encoder_patch_size"], settings["do_image_splitting"]
        most = settings["max_image_tokens"] * settings["downsample_factor"] ** 2
        most = max(most, (settings["tile_size"] // side) ** 2 if split else 0)
        grids, sizes, shown = [], [], list[Tensor]()
        for image in images:
            height, width = image.shape[1:]
            grid, size = layout((height, width), settings)
            if math.prod(size) > most * side**2:
                raise ValueError(f"{width} x {height} pixels are too long and narrow, so crop the picture")
            grids.append(grid)
            sizes.append(list(size))
            shown += tiles(image, grid, size, settings)
        made = [patches(normalised(tile, settings), side, "hwc") for tile in shown]
        valid = [torch.arange(most) < len(each) for each in made]
        given = {
            "pixel_values": torch.stack([pad(each, (0, 0, 0, most - len(each))) for each in made]),
            "pixel_attention_mask": torch.stack(valid).int(),
            "spatial_shapes": torch.tensor([[tile.shape[1] // side, tile.shape[2] // side] for tile in shown]),
        }
        if settings["return_row_col_info"]:
            rows, columns = zip(*grids, strict=True)
            given |= {"image_rows": list(rows), "image_cols": list(columns), "image_sizes": sizes}
        return given


def tiles(image: Tensor, grid: Size, size: Size, settings: dict[str, Any]) -> list[Tensor]:
    """The pictures that the tower sees of one."""
    whole, side = resized(image, size, settings["resample"]), settings["tile_size"]
    if grid == (1, 1):
        return [whole]
    large = resized(image, (grid[0] * side, grid[1] * side), settings["resample"])
    found = [tile for row in large.split(side, 1) for tile in row.split(side, 2)]
    return [*found, whole] if settings["use_thumbnail"] else found


def layout(size: Size, settings: dict[str, Any]) -> tuple[Size, Size]:
    """Rows and columns of tiles, and the size of the picture as a whole, of a picture of this size."""
    unit = settings["encoder_patch_size"] * settings["downsample_factor"]
    least, most = (settings[name] * unit**2 for name in ("min_image_tokens", "max_image_tokens"))
    fewest, limit = settings["min_tiles"], settings["max_tiles"]
    rounded = [max(settings["encoder_patch_size"], round(side / unit) * unit) for side in size]
    large = math.prod(rounded) > most * settings["max_pixels_tolerance"]
    if not settings["do_image_splitting"] or not large or fewest == limit == 1:
        return (1, 1), fitted(size, unit, least, most)
    if fewest > limit:
        raise ValueError(f"min_tiles={fewest} is more than max_tiles={limit}")
    return tiling(size, fewest, limit, settings["tile_size"]), fitted(size, unit, least, most)


def fitted(size: Size, unit: int, least: int, most: int) -> Size:
    """The nearest size of whole units, its area between two numbers of pixels, the shape about as it was."""
    area = math.prod(size)
    height, width = (max(unit, round(side / unit) * unit) for side in size)
    if height * width > most:
        height, width = (max(unit, math.floor(side / math.sqrt(area / most) / unit) * unit) for side in size)
    elif height * width < least:
        height, width = (math.ceil(side * math.sqrt(least / area) / unit) * unit for side in size)
    return height, width


def tiling(size: Size, fewest: int, most: int, side: int) -> Size:
    """Rows and columns of square tiles whose shape is nearest to the picture's; of two alike the larger, if the picture
    fills more than half of it.
    """
    grids = [(rows, n // rows) for n in range(fewest, most + 1) for rows in range(n, 0, -1) if n % rows == 0]
    best, nearest = (1, 1), math.inf
    for rows, columns in grids:
        away = abs(size[1] / size[0] - columns / rows)
        fills = math.prod(size) > 0.5 * rows * columns * side**2
        if away < nearest or (away == nearest and fills):
            best, nearest = (rows, columns), away
    return best


@registry.register("lfm2_vl")
class Lfm2VLPictures(PicturesOnly):
    """The family's own processor, its pictures made here."""

    pictures = Lfm2VlImageProcessor
