"""Image files of every kind become the array a network wants, or are refused by name."""

import numpy as np
import pytest
from PIL import Image

from jax_elastic.data.images import UnreadableImage, find_images, read_image
from jax_elastic.errors import UsageError

GREY, RGB = (2, 3, 1), (2, 3, 3)
RAMP = np.arange(0, 240, 40, np.uint8).reshape(2, 3)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def read(image, shape, path, **options):
    return read_image(saved(image, path, **options), shape)


# Finding


@pytest.fixture
def folder(tmp_path):
    """Images at two depths, hidden ones, and other files."""
    for name in ("b.PNG", "a.jpg", "deep/c.png", ".hidden.png", ".deep/d.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(paths, folder):
    return [str(path.relative_to(folder)) for path in paths]


def test_a_folder_stands_for_the_images_below_it_sorted_and_without_hidden_ones(folder):
    assert names(find_images([str(folder)]), folder) == ["a.jpg", "b.PNG", "deep/c.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jpg", ["a.jpg"]), ("**/*.png", ["deep/c.png"]), ("dee?", ["deep/c.png"])],
)
def test_a_glob_that_no_shell_expanded_is_expanded(folder, pattern, expected):
    assert names(find_images([f"{folder}/{pattern}"]), folder) == expected


def test_the_order_is_that_of_the_names_and_every_file_comes_once(folder):
    found = find_images([str(folder / "b.PNG"), str(folder), str(folder / "a.jpg")])
    assert names(found, folder) == ["b.PNG", "a.jpg", "deep/c.png"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(folder):
    odd = folder / "[1].dat"
    odd.touch()
    assert find_images([str(odd)]) == [odd]


def test_names_that_lead_to_no_image_are_all_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no image is found at .*/empty, .*/x\*, no\.png; a file"):
        find_images([f"{folder}/empty", f"{folder}/x*", str(folder), "no.png"])


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/deep"))

    monkeypatch.setattr("os.walk", walk)
    with pytest.raises(UsageError, match="deep cannot be read: Permission denied"):
        find_images([str(folder)])


# Reading


def test_grey_stays_what_it_is(tmp_path):
    found = read(Image.fromarray(RAMP), GREY, tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, RAMP[..., None])
    assert (found.pixels.dtype, found.size, found.changes) == (np.uint8, (2, 3), ())


def test_rgb_stays_what_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=RGB, dtype=np.uint8)
    found = read(Image.fromarray(pixels), RGB, tmp_path / "a.png")
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.changes == ()


def one_colour(mode, colour):
    return Image.new(mode, (3, 2), colour)


def palette(**transparency):
    image = one_colour("P", 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.info.update(transparency)
    return image


LUMA = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


@pytest.mark.parametrize(
    ("image", "kind", "shape", "colour", "changes"),
    [
        (one_colour("L", 70), "png", RGB, (70, 70, 70), ("grey -> RGB",)),
        (one_colour("1", 1), "png", GREY, (255,), ()),
        (one_colour("RGB", (200, 100, 50)), "png", GREY, (LUMA,), ("colour -> grey",)),
        (palette(), "png", RGB, (200, 100, 50), ()),
        (palette(), "gif", GREY, (LUMA,), ("colour -> grey",)),
        (palette(transparency=1), "png", RGB, (255, 255, 255), ("laid on white",)),
        # A fifth of each colour, and what it leaves of the white: 255 - (255 - c) / 5.
        (one_colour("RGBA", (5, 155, 255, 51)), "png", RGB, (205, 235, 255), ("laid on white",)),
        (one_colour("RGBA", (5, 155, 255, 255)), "png", RGB, (5, 155, 255), ()),
        (one_colour("LA", (5, 51)), "png", GREY, (205,), ("laid on white",)),
        (one_colour("CMYK", (0, 255, 0, 0)), "tif", RGB, (255, 0, 255), ("CMYK -> RGB",)),
        (one_colour("CMYK", (0, 0, 0, 255)), "tif", GREY, (0,), ("colour -> grey",)),
        (one_colour("I;16", 0xABCD), "png", GREY, (0xAB,), ("16 -> 8 bits",)),
        (one_colour("I;16", 0xABCD), "tif", GREY, (0xAB,), ("16 -> 8 bits",)),
        (one_colour("I;16", 0xFFFF), "png", RGB, (255,) * 3, ("16 -> 8 bits", "grey -> RGB")),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_kind_of_pixel_becomes_the_networks(image, kind, shape, colour, changes, tmp_path):
    found = read(image, shape, tmp_path / f"a.{kind}")
    np.testing.assert_array_equal(found.pixels, np.full(shape, colour))
    assert found.changes == changes


def test_a_cmyk_jpeg_is_not_inverted(tmp_path):
    found = read(one_colour("CMYK", (0, 255, 255, 0)), RGB, tmp_path / "a.jpg")
    # Red, but for the losses of JPEG.
    np.testing.assert_allclose(found.pixels, np.full(RGB, (255, 0, 0)), atol=3)


def test_a_portable_map_of_sixteen_bits_keeps_its_upper_eight(tmp_path):
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 3 2 65535\n" + b"\xab\xcd" * 6)
    np.testing.assert_array_equal(read_image(path, GREY).pixels, np.full(GREY, 0xAB))


def test_another_size_is_resized_without_aliasing_and_said(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (40, 30))
    found = read(Image.fromarray(stripes), (2, 3, 1), tmp_path / "a.png")
    # Every pixel is a mean over many stripes; picking single ones would give 0 or 255.
    np.testing.assert_allclose(found.pixels, 127.5, atol=8)
    assert (found.size, found.changes) == ((40, 60), ("40x60 -> 2x3",))


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_an_image_is_turned_as_its_exif_data_say(mode, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by 90 degrees
    lying = Image.fromarray(RAMP if mode == "L" else RAMP.astype(np.uint16) << 8)
    found = read(lying, (3, 2, 1), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(found.pixels[..., 0], np.rot90(RAMP, -1))
    assert found.size == (3, 2) and "turned by EXIF" in found.changes


def test_of_several_frames_the_first_is_taken_and_said(tmp_path):
    frames = [one_colour("L", value) for value in (10, 20, 30)]
    found = read(frames[0], GREY, tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (found.pixels == 10).all()
    assert "first of 3 frames" in found.changes


def damaged(tmp_path, kind):
    """A file of each kind that is no image."""
    path = tmp_path / f"{kind}.png"
    if kind == "text":
        path.write_text("no image at all")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        noise = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
        whole = saved(Image.fromarray(noise), path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped":
        whole = bytearray(saved(Image.fromarray(RAMP), path).read_bytes())
        whole[-20] ^= 0xFF
        path.write_bytes(bytes(whole))
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("text", "it is no image"),
        ("empty", "it is empty"),
        ("missing", "No such file or directory"),
        ("folder", "Is a directory"),
        ("truncated", "truncated"),
        ("flipped", "."),
    ],
)
def test_a_file_that_is_no_image_is_refused_with_its_name_and_the_reason(kind, reason, tmp_path):
    path = damaged(tmp_path, kind)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        read_image(path, GREY)
    assert caught.value.path == path and str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_no_known_range_are_refused(mode, tmp_path):
    with pytest.raises(UnreadableImage, match="32-bit numbers of no known range"):
        read(one_colour(mode, 3), GREY, tmp_path / "a.tif")


def test_sixteen_bits_with_a_transparent_grey_are_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="transparent grey"):
        read(one_colour("I;16", 3), GREY, tmp_path / "a.png", transparency=3)


def test_a_network_of_other_channels_has_no_files(tmp_path):
    with pytest.raises(UsageError, match=r"images of 2 channels .* 1 \(grey\) or 3 \(RGB\)"):
        read(Image.fromarray(RAMP), (2, 3, 2), tmp_path / "a.png")
