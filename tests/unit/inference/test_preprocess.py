from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import preprocess as pre

LOSSLESS = {"WEBP": {"lossless": True}}


def recipe(**change: Any) -> pre.Preprocess:
    base = {
        "size": 16,
        "resize": "squash",
        "resample": "bilinear",
        "antialias": True,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    }
    return pre.parse_preprocess({"preprocess": {**base, **change}})


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def photo(height: int = 37, width: int = 53, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("key", ["size", "resize", "resample", "antialias", "mean", "std"])
def test_a_missing_key_is_an_error_and_never_guessed(key: str) -> None:
    raw = {"size": 16, "resize": "pad", "resample": "bilinear", "antialias": False}
    raw |= {"mean": [0, 0, 0], "std": [1, 1, 1]}
    del raw[key]
    with pytest.raises(InputError, match=f"missing '{key}'"):
        pre.parse_preprocess({"preprocess": raw})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size": 1}, "size: got 1", id="size"),
        pytest.param({"resize": "crop"}, "resize: got 'crop'", id="resize"),
        pytest.param({"resample": "nearest"}, "resample: got 'nearest'", id="resample"),
        pytest.param({"antialias": "yes"}, "antialias: got 'yes'", id="antialias"),
        pytest.param({"mean": [0, 0]}, "three numbers", id="mean"),
        pytest.param({"std": [1, 0, 1]}, "each must be > 0", id="std"),
        pytest.param({"exif_orientation": True}, "exif_orientation: got True", id="orientation"),
        pytest.param({"crop": 3}, "unknown 'crop'", id="unknown key"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        recipe(**change)


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_antialiased_squash_agrees_with_pillow_within_one_grey_level(resample: str) -> None:
    image = photo(120, 90)
    kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resample]
    expected = np.asarray(Image.fromarray(image).resize((16, 16), kernel)).astype(int)
    got = pre.resize(image, recipe(resample=resample)).astype(int)
    assert np.abs(got - expected).max() <= 1


def test_without_antialias_bilinear_reads_the_four_nearest_pixels() -> None:
    image = photo(64, 64)
    got = pre.resize(image, recipe(antialias=False)).astype(float)
    # 64 -> 16: output pixel i sits at 4 i + 1.5, half-way between pixels 4 i + 1 and 4 i + 2
    near = [image[1 + a :: 4, 1 + b :: 4].astype(float) for a in (0, 1) for b in (0, 1)]
    assert np.abs(got - np.mean(near, axis=0)).max() <= 1
    assert np.abs(got - pre.resize(image, recipe())).max() > 20


def test_pad_keeps_the_aspect_ratio_on_a_centred_black_square() -> None:
    white = np.full((16, 8, 3), 255, dtype=np.uint8)
    got = pre.resize(white, recipe(resize="pad"))
    assert (got[:, 4:12] == 255).all()
    assert (got[:, :4] == 0).all()
    assert (got[:, 12:] == 0).all()
    assert (pre.resize(white, recipe()) == 255).all()


def test_to_tensor_is_channels_first_and_normalised_by_hand() -> None:
    image = np.zeros((16, 16, 3), dtype=np.uint8)
    image[..., 0], image[..., 2] = 255, 51
    got = pre.to_tensor(image, recipe(mean=[0.5, 0.25, 0.2], std=[0.5, 0.5, 2.0]))
    assert got.shape == (3, 16, 16)
    assert got[:, 3, 5].tolist() == pytest.approx([1.0, -0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_pillow_does_or_ignored(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(photo()), kind, exif=exif, **LOSSLESS.get(kind, {}))
    stored = Image.open(io.BytesIO(data)).convert("RGB")
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)).convert("RGB"))
    assert (turned.size != stored.size) == (orientation >= 5)
    assert np.array_equal(pre.decode(data), np.asarray(turned))
    assert np.array_equal(pre.decode(data, upright=False), np.asarray(stored))


def test_the_artifact_says_whether_orientation_counts_and_silence_means_it_does() -> None:
    assert recipe().upright
    assert recipe(exif_orientation="apply").upright
    assert not recipe(exif_orientation="ignore").upright


def test_an_orientation_that_is_no_orientation_changes_nothing() -> None:
    image = photo(3, 4)
    assert all(np.array_equal(pre.oriented(image, n), image) for n in (0, 1, 9, -6))


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (33, 130), (97, 64)], ids=str)
def test_a_plain_jpeg_has_pillows_pixels_bit_for_bit(
    size: tuple[int, int], progressive: bool, subsampling: int
) -> None:
    for quality in (30, 90, 100):
        data = saved(
            Image.fromarray(photo(*size)),
            "JPEG",
            quality=quality,
            progressive=progressive,
            subsampling=subsampling,
            restart_marker_blocks=3,
        )
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(pre.decode(data), expected)


def test_a_jpeg_that_stores_rgb_and_a_grey_one_have_pillows_pixels() -> None:
    for data in (
        saved(Image.fromarray(photo()), "JPEG", keep_rgb=True),
        saved(Image.fromarray(photo()).convert("L"), "JPEG"),
    ):
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(pre.decode(data), expected)


def test_cmyk_is_converted_by_the_formula_of_uncalibrated_inks() -> None:
    inks = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    got = pre.decode(saved(Image.fromarray(inks, "CMYK"), "TIFF")).astype(float)
    light = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255.0
    assert np.abs(got - light).max() <= 1


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (5, 6, 4), dtype=np.uint8)
    got = pre.decode(saved(Image.fromarray(rgba), "PNG")).astype(float)
    alpha = rgba[..., 3:] / 255.0
    assert np.abs(got - (rgba[..., :3] * alpha + 255.0 * (1 - alpha))).max() <= 1


def cubic(x: float, a: float) -> float:
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def kernel_weights(n_in: int, n_out: int, resample: str, antialias: bool) -> Any:
    """(n_out, n_in) weights, from the definition: half-pixel centres, the border repeated or cut.

    Shrinking with antialias stretches the kernel by the scale and renormalises what is cut off at
    the border (Pillow); without it the kernel has its own width, and the border is repeated
    (torch and OpenCV, whose cubic has a = -0.75 where Pillow's has -0.5).
    """
    scale = n_in / n_out
    stretch = max(scale, 1.0) if antialias else 1.0
    a = -0.5 if antialias else -0.75
    support = 1.0 if resample == "bilinear" else 2.0
    weights = np.zeros((n_out, n_in))
    for i in range(n_out):
        centre = (i + 0.5) * scale - 0.5
        reach = int(np.ceil(support * stretch)) + 1
        for j in range(int(np.floor(centre)) - reach, int(np.floor(centre)) + reach + 1):
            x = (j - centre) / stretch
            w = max(0.0, 1 - abs(x)) if resample == "bilinear" else cubic(x, a)
            if antialias and not 0 <= j < n_in:
                continue
            weights[i, min(max(j, 0), n_in - 1)] += w
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(64, 64), (45, 60), (130, 31), (9, 12)], ids=str)
@pytest.mark.parametrize("how", ["squash", "pad"])
@pytest.mark.parametrize("antialias", [True, False], ids=["antialias", "no antialias"])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_every_declared_resize_agrees_with_its_definition(
    resample: str, antialias: bool, how: str, shape: tuple[int, int]
) -> None:
    image = photo(*shape)
    source = image.astype(float)
    if how == "pad":
        height, width = shape
        side = max(shape)
        top, left = (side - height) // 2, (side - width) // 2
        spare = ((top, side - height - top), (left, side - width - left), (0, 0))
        source = np.pad(source, spare)
    rows, columns = (kernel_weights(n, 16, resample, antialias) for n in source.shape[:2])
    # as in Pillow, a first pass is cut to 8 bits, which shows where a cubic overshoots
    narrow = np.einsum("hwc,jw->hjc", source, columns)
    if resample == "bicubic":
        narrow = narrow.clip(0, 255).round()
    expected = np.einsum("ih,hjc->ijc", rows, narrow).clip(0, 255)
    got = pre.resize(image, recipe(resample=resample, antialias=antialias, resize=how))
    assert np.abs(got - expected).max() <= 1.2


def test_sixteen_bit_pixels_keep_their_shades() -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    got = pre.decode(saved(Image.fromarray(ramp), "PNG"))
    assert np.array_equal(got, np.repeat((ramp >> 8).astype(np.uint8)[..., None], 3, axis=2))
    assert got.max() == 255
    assert len(np.unique(got)) > 32


def test_transparency_is_laid_on_white() -> None:
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[0, 0] = (200, 0, 0, 255)
    got = pre.decode(saved(Image.fromarray(rgba), "PNG"))
    assert got[0, 0].tolist() == [200, 0, 0]
    assert (got[1:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.fromarray(photo()).convert(mode)
    got = pre.decode(saved(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"))
    assert got.shape == (37, 53, 3)
    assert got.dtype == np.uint8
    assert got.std() > 10


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"", "not a picture", id="empty"),
        pytest.param(b"\xff\xd8\xff", "not a picture|broken", id="three bytes"),
        pytest.param(saved(Image.fromarray(photo()), "JPEG")[:1500], "truncated", id="truncated"),
        pytest.param(saved(Image.fromarray(photo()), "PNG")[:900], "broken", id="cut png"),
        pytest.param(huge_png(), "over the limit", id="decompression bomb"),
        pytest.param(
            saved(Image.fromarray(np.ones((3, 3), dtype=np.float32)), "TIFF"),
            "no known range",
            id="floating point",
        ),
    ],
)
def test_a_broken_picture_is_a_decode_error_of_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(pre.DecodeError, match=reason) as caught:
        pre.decode(data)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_path_that_is_no_file_is_a_decode_error_without_the_path(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.jpg", tmp_path):
        with pytest.raises(pre.DecodeError, match=r"^no such file$"):
            pre.decode(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Truncated File Read")
def test_cutting_a_file_anywhere_gives_a_picture_or_a_decode_error() -> None:
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        data = saved(Image.fromarray(photo(9, 11)), kind)
        for length in range(0, len(data), max(1, len(data) // 60)):
            try:
                assert pre.decode(data[:length]).shape == (9, 11, 3)
            except pre.DecodeError:
                continue
