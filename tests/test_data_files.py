"Files as they are found in the world: every kind of picture, broken ones, caches that must notice, sets without a network."
import os
import struct
import sys
import types
import urllib.error
import urllib.request
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from genae.datasets import ImageDataset, image_folder, open_dataset, toyfaces
from genae.images import crop_square, flatten_to_rgb, open_image

KEY = (10, 20, 30) # a background


@pytest.fixture
def place(tmp_path):
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*a, **k): raise urllib.error.URLError("no network in tests")
    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def plain(colour, size=(64, 64), mode="RGB"): return Image.new(mode, size, colour)


def quarters(n=64):
    "Red, green / blue, white: every turn and mirror image of it is different."
    a = np.zeros((n, n, 3), "uint8")
    h = n // 2
    a[:h, :h], a[:h, h:], a[h:, :h], a[h:, h:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    return Image.fromarray(a)


def quietly(*a, **k):
    with warnings.catch_warnings():
        warnings.simplefilter("error") # a warning would mean that something was lost
        return image_folder(*a, **k)


def one(place, **k):
    dataset = quietly(place, **k)
    assert len(dataset) == 1
    return dataset.images[0]


def colour(x): # of a picture of one colour
    flat = x.flatten(1).float()
    assert (flat.max(1).values - flat.min(1).values).max() <= 8
    return flat.mean(1).round().int().tolist()


def near(got, want, by=2): assert all(abs(g - w) <= by for g, w in zip(got, want)), (got, want)


# ---------------------------------------------------------------- kinds of pictures

FORMATS = ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "tga", "pcx", "jp2", "ico", "sgi", "dds", "avif", "qoi", "icns"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_formats(place, suffix):
    Image.init()
    if Image.EXTENSION.get(f".{suffix}") not in Image.SAVE: pytest.skip(f"this Pillow does not write {suffix}")
    plain((200, 100, 50)).save(place / f"a.{suffix}")
    near(colour(one(place)), (200, 100, 50), by=4)


@pytest.mark.parametrize("mode, value, want", [
    ("1", 1, (255, 255, 255)), ("L", 77, (77, 77, 77)), ("CMYK", (0, 255, 255, 0), (255, 0, 0)), ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
    ("YCbCr", (128, 128, 128), (128, 128, 128)), ("LAB", (128, 128, 128), (119, 119, 119)),
    ("RGBA", (255, 0, 0, 0), KEY), ("RGBA", (200, 100, 50, 255), (200, 100, 50)), ("LA", (200, 0), KEY), ("F", .5, (128, 128, 128)), ("F", 77., (77, 77, 77))])
def test_modes_in_tiff(place, mode, value, want):
    plain(value, mode=mode).save(place / "a.tif")
    near(colour(one(place, background=KEY)), want, by=3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(place, suffix):
    ramp = np.linspace(0, 65535, 64).astype("uint16")
    Image.fromarray(np.broadcast_to(ramp, (64, 64)).copy()).save(place / f"a.{suffix}")
    got = one(place, size=64)[0, 32].float()
    assert (got - torch.linspace(0, 255, 64)).abs().max() <= 1


def test_sixteen_bits_of_big_end_first(place):
    im = Image.frombytes("I;16B", (64, 64), struct.pack(">H", 51400) * 64 * 64)
    im.save(place / "a.tif")
    near(colour(one(place)), (200, 200, 200))


def test_thirty_two_bits(place):
    Image.fromarray(np.full((64, 64), 2 ** 30, "int32")).save(place / "a.tif")
    near(colour(one(place)), (128, 128, 128))


def test_floats_that_are_no_numbers(place):
    a = np.full((64, 64), .5, "float32"); a[:8] = np.nan
    Image.fromarray(a).save(place / "a.tif")
    assert one(place)[0, 16, 16] in (127, 128)


def test_half_transparent_over_background(place):
    plain((255, 255, 255, 128), mode="RGBA").save(place / "a.png")
    near(colour(one(place, background=(0, 0, 0))), (128, 128, 128))


def test_hidden_colour_does_not_bleed(place):
    "What lies under full transparency must not show at the rim after resizing."
    a = np.zeros((64, 64, 4), "uint8"); a[..., 0] = 255; a[16:48, 16:48] = (255, 255, 255, 255) # red, unseen, around white
    Image.fromarray(a).save(place / "a.png")
    x = one(place, size=20).int()
    assert (x[0] - x[1]).abs().max() <= 1


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_transparency(place, suffix):
    im = plain(0, mode="P"); im.putpalette([255, 0, 0, 0, 255, 0])
    im.paste(1, (0, 0, 32, 64))
    im.save(place / f"a.{suffix}", transparency=0)
    x = one(place, background=KEY)
    near(x[:, 16, 4].tolist(), (0, 255, 0)); near(x[:, 16, 28].tolist(), KEY)


def test_palette_with_alpha_bytes(place):
    im = plain(0, mode="P"); im.putpalette([255, 0, 0, 0, 255, 0])
    im.save(place / "a.png", transparency=bytes([0, 255]))
    near(colour(one(place, background=KEY)), KEY)


@pytest.mark.parametrize("mode, value", [("L", 9), ("RGB", (9, 8, 7))])
def test_one_colour_declared_transparent(place, mode, value):
    plain(value, mode=mode).save(place / "a.png", transparency=value)
    near(colour(one(place, background=KEY)), KEY)


TURNS = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270} # what undoes what EXIF asks for


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_turns(place, orientation, suffix):
    stored = quarters() if TURNS[orientation] is None else quarters().transpose(TURNS[orientation])
    exif = Image.Exif(); exif[0x112] = orientation
    stored.save(place / f"a.{suffix}", exif=exif, **(dict(lossless=True) if suffix == "webp" else dict(quality=95) if suffix == "jpg" else {}))
    x = one(place)
    for (i, j), want in {(8, 8): (255, 0, 0), (8, 24): (0, 255, 0), (24, 8): (0, 0, 255), (24, 24): (255, 255, 255)}.items():
        near(x[:, i, j].tolist(), want, by=6)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_and_it_is_said(place, suffix):
    frames = [plain(c) for c in ((200, 0, 0), (0, 200, 0), (0, 0, 200))]
    frames[0].save(place / f"a.{suffix}", save_all=True, append_images=frames[1:])
    dataset = quietly(place)
    near(colour(dataset.images[0]), (200, 0, 0), by=6)
    assert dataset.report["first_frame_of"] == {f"a.{suffix}": 3}


def test_huge_aspect_is_cropped_at_the_centre(place):
    a = np.zeros((40, 4000, 3), "uint8"); a[:, 1980:2020] = (200, 100, 50)
    Image.fromarray(a).save(place / "a.png")
    near(colour(one(place)), (200, 100, 50))


def test_antialias(place):
    Image.fromarray(((np.indices((256, 256)).sum(0) % 2) * 255).astype("uint8")).save(place / "a.png")
    assert (one(place, size=16).float() - 127.5).abs().max() < 6


def test_same_size_is_left_alone(place):
    a = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype="uint8")
    Image.fromarray(a).save(place / "a.png")
    assert torch.equal(one(place), torch.from_numpy(a).permute(2, 0, 1))


# ---------------------------------------------------------------- broken ones

def ruin(place):
    "Six bad files among two good ones; the names of the bad."
    plain((1, 2, 3)).save(place / "good a.png"); quarters().save(place / "good b.jpg")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8"))
    for name in ("cut.png", "cut.jpg"):
        noise.save(place / name)
        (place / name).write_bytes((place / name).read_bytes()[:2000])
    (place / "empty.jpg").touch()
    (place / "letter.png").write_text("Dear sir, not a picture.")
    plain(0, (1, 1), "L").save(place / "dot.png")
    plain(0, (2000, 3)).save(place / "sliver.png")
    return {"cut.png", "cut.jpg", "empty.jpg", "letter.png", "dot.png", "sliver.png"}


def test_bad_files_are_skipped_by_name(place):
    bad = ruin(place)
    with pytest.warns(UserWarning, match="2 pictures read, 6 skipped") as said: dataset = image_folder(place)
    assert set(dataset.report["skipped"]) == bad and dataset.report["names"] == ["good a.png", "good b.jpg"] and len(dataset) == dataset.report["read"] == 2
    assert all(name in str(said[0].message) for name in bad)
    assert "1x1" in dataset.report["skipped"]["dot.png"] and "2000x3" in dataset.report["skipped"]["sliver.png"]


def test_bad_files_are_refused_by_name(place):
    bad = ruin(place)
    with pytest.raises(ValueError) as e: image_folder(place, on_bad="refuse")
    assert all(name in str(e.value) for name in bad) and "on_bad='skip'" in str(e.value)


def test_many_bad_files_are_counted(place):
    plain(0).save(place / "a.png")
    for i in range(25): (place / f"bad{i:02}.png").touch()
    with pytest.warns(UserWarning, match="and 15 more"): assert len(image_folder(place).report["skipped"]) == 25


def test_only_bad_files(place):
    (place / "a.png").write_text("no")
    with pytest.raises(ValueError, match="none of 1 pictures"): image_folder(place)


@pytest.mark.parametrize("fill", [lambda p: None, lambda p: (p / "notes.txt").write_text("no"), lambda p: (p / "deeper").mkdir()])
def test_empty_folder_says_what_to_do(place, fill):
    fill(place)
    with pytest.raises(ValueError, match="put some there"): image_folder(place)


def test_wrong_requests(place, tmp_path):
    plain(0).save(place / "a.png")
    with pytest.raises(ValueError, match="no folder"): image_folder(tmp_path / "absent")
    with pytest.raises(ValueError, match="'skip' or 'refuse'"): image_folder(place, on_bad="ignore")
    with pytest.raises(ValueError, match="neither a folder nor"): open_dataset("cifar-10", root=tmp_path)
    with pytest.raises(ValueError, match="'train' or 'test'"): open_dataset("cifar10", split="dev", root=tmp_path)
    with pytest.raises(ValueError, match="no test part"): open_dataset(place, split="test", root=tmp_path)
    with pytest.raises(ValueError, match="at least one"): open_dataset(place, n=0, root=tmp_path)


# ---------------------------------------------------------------- which files, and in which order

def test_subfolders_order_and_what_is_passed_over(place):
    for i, name in enumerate(["b/1.png", "a/x/2.png", "a-1.png", "Z.png", "é.png", "no suffix"]):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        plain((40 * i, 0, 0)).save(place / name, format="png")
    (place / ".hidden").mkdir(); plain(0).save(place / ".hidden" / "c.png"); plain(0).save(place / "._a.png")
    (place / "notes.txt").write_text("no"); (place / "b" / "table.csv").write_text("1,2")
    dataset = quietly(place)
    assert dataset.report["names"] == ["Z.png", "a-1.png", "a/x/2.png", "b/1.png", "no suffix", "é.png"]
    assert dataset.images[:, 0, 0, 0].tolist() == [120, 80, 40, 0, 200, 160]
    assert dataset.report["passed_over"] == ["._a.png", ".hidden/c.png", "b/table.csv", "notes.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_linked_folders_and_loops(place, tmp_path):
    other = tmp_path / "other"; other.mkdir(); plain(0).save(other / "far.png")
    plain(0).save(place / "near.png")
    (place / "link").symlink_to(other); (place / "loop").symlink_to(place); (other / "back").symlink_to(place)
    assert quietly(place).report["names"] == ["link/far.png", "near.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there may a name be any bytes")
def test_name_that_is_not_text(place, tmp_path):
    plain(0).save(os.fsdecode(os.fsencode(place) + b"/b\xff.png"), format="png")
    (place / os.fsdecode(b"a\xff.png")).touch()
    for _ in range(2):
        with pytest.warns(UserWarning, match="1 skipped"): dataset = open_dataset(place, root=tmp_path / "root")
    assert dataset.report["names"] == [r"b\xff.png"]


def test_two_names_that_read_the_same(place):
    "Account is kept by file, also where two names look alike once made readable."
    if sys.platform != "linux": pytest.skip("only there may a name be any bytes")
    for raw in (b"a\xff.png", b"a\xfe.png"): (place / os.fsdecode(raw)).touch()
    plain(0).save(place / "good.png")
    with pytest.warns(UserWarning, match="2 skipped"): image_folder(place)


def test_a_number_of_pictures_evenly_spaced(place, tmp_path):
    for i in range(10): plain((i, i, i)).save(place / f"{i}.png")
    assert open_dataset(place, n=5, root=tmp_path).images[:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert len(open_dataset(place, n=50, root=tmp_path)) == 10


# ---------------------------------------------------------------- the cache

@pytest.fixture
def counted(monkeypatch):
    "Counts how often a folder is really read."
    import genae.datasets as data
    reads, real = [], data.image_folder
    monkeypatch.setattr(data, "image_folder", lambda *a, **k: reads.append(1) or real(*a, **k))
    return reads


def test_cache_is_used(place, tmp_path, counted):
    quarters().save(place / "a.png")
    first, second = (open_dataset(place, root=tmp_path) for _ in range(2))
    assert len(counted) == 1 and torch.equal(first.images, second.images) and first.report == second.report


def add(p): plain((9, 9, 9)).save(p / "new.png")
def remove(p): (p / "b.png").unlink()
def rename(p): (p / "b.png").rename(p / "c.png")
def replace(p): plain((5, 5, 5)).save(p / "b.png")


def replace_in_secret(p): # same length, same time of change
    before = (p / "b.png").stat()
    data = (p / "b.png").read_bytes()
    plain((77, 77, 77)).save(p / "b.png", format="bmp")
    assert len(data) == (p / "b.png").stat().st_size
    os.utime(p / "b.png", ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [add, remove, rename, replace, replace_in_secret])
def test_cache_notices(place, tmp_path, counted, change):
    for name, c in (("a.png", 1), ("b.png", 2)): plain((c, c, c)).save(place / name, format="bmp") # all of one length
    open_dataset(place, root=tmp_path)
    change(place)
    after = open_dataset(place, root=tmp_path)
    assert len(counted) == 2 and torch.equal(after.images, image_folder(place).images)
    assert len(list((tmp_path / "datasets").iterdir())) == 1 # old ones do not pile up


def test_cache_knows_what_was_asked(place, tmp_path, counted):
    plain((255, 0, 0, 0), mode="RGBA").save(place / "a.png")
    seen = [open_dataset(place, root=tmp_path, **k) for k in (dict(), dict(size=16), dict(background=(0, 0, 0)), dict(on_bad="refuse"))]
    assert len(counted) == 4 and seen[1].size == 16 and seen[2].images.max() == 0 and seen[0].images.min() == 255


def test_what_was_skipped_is_said_again_from_the_cache(place, tmp_path, counted):
    ruin(place)
    for _ in range(2):
        with pytest.warns(UserWarning, match="6 skipped"): open_dataset(place, root=tmp_path)
    assert len(counted) == 1


@pytest.mark.parametrize("damage", [lambda f: f.write_bytes(f.read_bytes()[:-100]), lambda f: f.write_bytes(b""), lambda f: f.write_text("no"),
                                    lambda f: save_file(dict(other=torch.zeros(1)), str(f)),
                                    lambda f: save_file(dict(images=torch.zeros(2, 3, 4, 4)), str(f), metadata=dict(dataset="{}")),
                                    lambda f: save_file(dict(images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8)), str(f), metadata=dict(dataset="{")),
                                    lambda f: save_file(dict(images=torch.zeros(2, 3, 4, 4, dtype=torch.uint8), more=torch.zeros(1)), str(f), metadata=dict(dataset="{}"))])
def test_damaged_cache_is_told_and_made_again(place, tmp_path, damage):
    quarters().save(place / "a.png")
    good = open_dataset(place, root=tmp_path)
    [file] = (tmp_path / "datasets").iterdir()
    damage(file)
    with pytest.raises(ValueError, match=file.stem): ImageDataset.load(file)
    with pytest.warns(UserWarning, match="again"): again = open_dataset(place, root=tmp_path)
    assert torch.equal(again.images, good.images) and torch.equal(ImageDataset.load(file).images, good.images)


def test_cache_that_cannot_be_written(place, tmp_path):
    quarters().save(place / "a.png")
    (tmp_path / "root").mkdir(); (tmp_path / "root" / "datasets").write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="read anew"): assert len(open_dataset(place, root=tmp_path / "root")) == 1


def test_save_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    dataset, file = toyfaces(4), tmp_path / "a.safetensors"
    dataset.save(file)
    before = file.read_bytes()
    def full(tensors, path, metadata):
        with open(path, "wb") as f: f.write(b"half")
        raise OSError("disk full")
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="disk full"): toyfaces(8).save(file)
    assert file.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_saved_and_loaded(tmp_path):
    dataset = ImageDataset(toyfaces(4).images[:, :1], labels=torch.arange(8).view(4, 2), report=dict(source="x", skipped={"é.png": "broken"}))
    dataset.save(tmp_path / "deep" / "a.safetensors")
    again = ImageDataset.load(tmp_path / "deep" / "a.safetensors")
    assert torch.equal(again.images, dataset.images) and torch.equal(again.labels, dataset.labels) and again.factors is None and again.report == dataset.report
    with pytest.raises(FileNotFoundError): ImageDataset.load(tmp_path / "absent.safetensors")


# ---------------------------------------------------------------- sets by name

def idx(a): return struct.pack(f">HBB{a.ndim}I", 0, 8, a.ndim, *a.shape) + a.tobytes()


def faces_of(n, c): return toyfaces(n, 32).images[:, :c]


@pytest.mark.parametrize("split, stem", [("train", "train"), ("test", "t10k")])
def test_fashion_mnist_of_torchvision(tmp_path, split, stem):
    images, raw = faces_of(6, 1)[:, 0, 2:-2, 2:-2].numpy().copy(), tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for s in ("train", "t10k"):
        (raw / f"{s}-images-idx3-ubyte").write_bytes(idx(images if s == stem else images[:1]))
        (raw / f"{s}-labels-idx1-ubyte").write_bytes(idx(np.arange(6 if s == stem else 1, dtype="uint8")))
    dataset = open_dataset("fashion-mnist", split=split, root=tmp_path)
    assert torch.equal(dataset.images[:, 0, 2:-2, 2:-2], torch.from_numpy(images)) and dataset.images[:, :, :2].max() == 0
    assert dataset.labels.tolist() == list(range(6)) and dataset.batch(torch.arange(2)).shape == (2, 3, 32, 32)
    assert open_dataset("fashion-mnist", size=16, n=3, split=split, root=tmp_path).labels.tolist() == [0, 2, 4]


class Arrays:
    "torchvision's CIFAR10 as far as it is used; reading the real one means unpickling, which a test should not."
    def __init__(self, root, train, download):
        x = faces_of(5 if train else 2, 3)
        self.data, self.targets = x.permute(0, 2, 3, 1).numpy(), list(range(len(x)))


class Items:
    "torchvision's CelebA and LSUN as far as they are used."
    def __init__(self, root, **k): self.asked = k
    def __len__(self): return 4
    def __getitem__(self, i):
        if i == 2: raise OSError("picture 2 is damaged")
        return plain((50 * i, 0, 0), (178, 218)), torch.arange(40) % (i + 1) if "split" in self.asked else i


def test_cifar10_of_torchvision(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Arrays)
    dataset = open_dataset("cifar10", root=tmp_path)
    assert torch.equal(dataset.images, faces_of(5, 3)) and dataset.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(open_dataset("cifar10", split="test", root=tmp_path)) == 2


@pytest.mark.parametrize("name, cls, shape", [("celeba", "CelebA", (3, 40)), ("lsun", "LSUN", (3,))])
def test_sets_read_one_by_one(tmp_path, monkeypatch, name, cls, shape):
    monkeypatch.setattr(f"torchvision.datasets.{cls}", Items)
    with pytest.warns(UserWarning, match=f"3 pictures read, 1 skipped: {name} 2"): dataset = open_dataset(name, size=16, root=tmp_path)
    assert dataset.images.shape == (3, 3, 16, 16) and dataset.labels.shape == shape and dataset.images[:, 0, 8, 8].tolist() == [0, 50, 150]
    with pytest.raises(ValueError, match="cannot be used"): open_dataset(name, on_bad="refuse", root=tmp_path)
    monkeypatch.delattr(f"torchvision.datasets.{cls}")
    with pytest.warns(UserWarning, match="1 skipped"): assert torch.equal(open_dataset(name, size=16, root=tmp_path).images, dataset.images) # from the cache


@pytest.mark.parametrize("split, asked", [("train", "bedroom_train"), ("test", "bedroom_val")])
def test_lsun_part(tmp_path, monkeypatch, split, asked):
    seen = []
    class Lsun(Items):
        def __init__(self, root, classes): seen.extend(classes); self.asked = {}
    monkeypatch.setattr("torchvision.datasets.LSUN", Lsun)
    with pytest.warns(UserWarning): open_dataset("lsun", split=split, root=tmp_path)
    assert seen == [asked]


@pytest.mark.parametrize("split", ["train", "test"])
def test_file_of_the_fetch_tool(tmp_path, split):
    save_file({f"{s}_{what}": t for s, k in (("train", 6), ("test", 3)) for what, t in
               (("images", faces_of(k, 3).contiguous()), ("labels", torch.arange(k).to(torch.uint8)))}, str(tmp_path / "cifar10.safetensors"))
    dataset = open_dataset("cifar10", split=split, root=tmp_path)
    assert torch.equal(dataset.images, faces_of(len(dataset), 3)) and dataset.labels.dtype == torch.int64
    assert not (tmp_path / "datasets").exists() # the file is as fast as a cache


def test_damaged_file_of_the_fetch_tool(tmp_path):
    (tmp_path / "cifar10.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(ValueError, match="cifar10.safetensors"): open_dataset("cifar10", root=tmp_path)


@pytest.mark.parametrize("name, advice", [("fashion-mnist", "fashion_mnist.safetensors"), ("cifar10", "cifar10.safetensors"), ("celeba", "img_align_celeba"), ("lsun", "bedroom_train_lmdb")])
def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch, name, advice):
    monkeypatch.setitem(sys.modules, "gdown", types.ModuleType("gdown")) # present, and of no use
    with pytest.raises(RuntimeError, match=advice) as e: open_dataset(name, root=tmp_path)
    assert str(tmp_path) in str(e.value) and e.value.__cause__ is not None


def test_toyfaces_have_a_test_part(tmp_path):
    train, test = (open_dataset("toyfaces", n=8, split=s) for s in ("train", "test"))
    assert not torch.equal(train.factors, test.factors) and torch.equal(train.images, toyfaces(8).images)


def test_root_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAE_DATA", str(tmp_path / "here"))
    save_file(dict(train_images=faces_of(2, 3).contiguous(), train_labels=torch.zeros(2, dtype=torch.uint8)), str((tmp_path / "here").mkdir() or tmp_path / "here" / "cifar10.safetensors"))
    assert len(open_dataset("cifar10")) == 2


def test_square_over_a_background():
    for shape, box in (((12, 4), (4, 0, 8, 4)), ((4, 12), (0, 4, 4, 8))): # what is in the middle, wide or tall
        im = Image.new("RGBA", shape, (255, 0, 0, 255))
        im.paste((0, 0, 0, 0), box)
        for colour in ((10, 20, 30), (255, 255, 255)):
            assert [*crop_square(im, 4, colour).flatten(1).unique(dim=1).flatten().tolist()] == list(colour)
        assert (crop_square(im, 4) == 255).all()
    half = flatten_to_rgb(Image.new("RGBA", (1, 1), (200, 100, 0, 128)), (0, 0, 0)).getpixel((0, 0))
    assert all(abs(a - b) <= 1 for a, b in zip(half, (100, 50, 0)))


def test_deep_pictures():
    whole = flatten_to_rgb(Image.fromarray(np.array([[0, 65535]], dtype="int32")))
    real = flatten_to_rgb(Image.fromarray(np.array([[0, .5, 1]], dtype="float32")))
    assert [whole.getpixel((x, 0))[0] for x in range(2)] == [0, 255] and [real.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError): open_image(tmp_path / "none.png")
