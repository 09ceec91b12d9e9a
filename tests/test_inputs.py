"What is handed in from outside: hostile files, odd data sets, wrong codes. Each is one row, and ends in a data set, a warning or a ValueError of one line."
import ast
import json
import os
import signal
import socket
import struct
import sys
import warnings
import zlib

import pytest
import torch
from hypothesis import given, settings, strategies as st
from house import ROOT
from PIL import Image, ImageFile
from safetensors.torch import save_file

from genae.automodulator import Automodulator
from genae.cli import read_images
from genae.core import rng
from genae.datasets import ImageDataset, _tell, image_folder, open_dataset, toyfaces
from genae.deciphering import DecipheringAutoencoder
from genae.images import open_image
from genae.mixing import conditional, edit, interpolate, mix
from genae.patterns import ATTEMPTS, draw_patterns, random_draws, repeats
from genae.widgets import read_upload

POSIX = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="pipes, sockets and alarms are POSIX's")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (32, 32), (200, 100, 50)).save(tmp_path / "pictures" / "good.png")
    return tmp_path / "pictures"


@pytest.fixture
def alarm():
    "A test that hangs is a test that fails."
    def late(*_): pytest.fail("it hangs") # no Exception, so nothing that is tested swallows it
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 20, 1)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def line(e): # what an error says, on one line that can be shown
    assert str(e).isprintable() and len(str(e)) < 1_000
    return str(e)


def read_with_warning(place):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = image_folder(place)
    return dataset, " ".join(line(w.message) for w in said)


# ---------------------------------------------------------------- files that are none, and files that are too much

def chunk(kind, data): return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=1): # in one bit, black; only the first rows are there
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(bytes(rows * (1 + (width + 7) // 8)))) + chunk(b"IEND", b"")


def icon(inner): # whose directory says 16 x 16, whatever is inside
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def gif(width, height): return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00," + struct.pack("<HHHH", 0, 0, width, height) + b"\x00\x02\x02\x44\x01\x00;"


def jpeg(width, height): return b"\xff\xd8\xff\xc0\x00\x0b\x08" + struct.pack(">HH", height, width) + b"\x01\x01\x11\x00\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\xff\xd9"


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
HEIC = struct.pack(">I", 24) + b"ftypheic" + bytes(12)
HOSTILE = { # name of the file: its bytes, and what is said of it
    "eps.png": (EPS, "PostScript is not read: convert it to JPEG or PNG"),
    "page.eps": (EPS, "convert it to JPEG or PNG"),
    "page without suffix": (EPS, "convert it"),
    "old page.eps": (b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS, "PostScript is not read"),
    "phone.heic": (HEIC, "HEIC is not read: convert it to JPEG or PNG"),
    "renamed.jpg": (HEIC, "HEIC is not read"),
    "phone without suffix": (HEIC, "HEIC is not read"),
    "new.jxl": (b"\xff\x0a", "convert it"),
    "drawing.svg": (b"<svg/>", "convert it"),
    "old.xbm": (b"#define im_width 32\n#define im_height 32\nstatic char im_bits[] = {\n" + b"0x00," * 127 + b"0x00\n};\n", "convert it"),
    "camera.dng": (png(32, 32, 32), "a camera's raw file is not read: convert it"),
    "letter.jpg": (b"Dear sir,", "convert it to JPEG or PNG"),
    "cut.png": (png(64, 64, 64)[:50], "damaged"),
    "empty.png": (b"", "convert it"),
    "81 million.png": (png(9_000, 9_000), "too many pixels, 64 million at most: make it smaller"),
    "177 million.png": (png(13_300, 13_300), "too many pixels"),
    "225 million.png": (png(15_000, 15_000), "too many pixels"),
    "bomb.gif": (gif(30_000, 30_000), "too many pixels"),
    "bomb.jpg": (jpeg(60_000, 60_000), "too many pixels"),
    "bomb without suffix": (png(13_300, 13_300), "too many pixels"),
    "larger bomb without suffix": (png(15_000, 15_000), "too many pixels"),
    "icon.ico": (icon(png(13_300, 13_300)), "too many pixels")}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(place, name, monkeypatch):
    started, unfolded = [], []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: started.append(1)) # would be another program
    prepare = ImageFile.ImageFile.load_prepare
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load_prepare", lambda self: (unfolded.append(self.width * self.height), prepare(self)))
    content, why = HOSTILE[name]
    (place / name).write_bytes(content)
    assert len(content) < 100_000
    dataset, said = read_with_warning(place)
    assert dataset.report["names"] == ["good.png"] and why in dataset.report["skipped"][name] and name in said and why in said
    with pytest.raises(ValueError, match=why): open_image(place / name)
    with pytest.raises(ValueError, match=why) as e: read_images([place / name], 16)
    assert name in line(e.value)
    if name != "camera.dng": # an upload has no name
        with pytest.raises(ValueError) as e: read_upload(content, 16)
        line(e.value)
    assert not started and max(unfolded) <= 64 * 64 # pixels


@POSIX
@pytest.mark.parametrize("name", ["pipe", "pipe.png", "socket.png", "device.png"])
def test_neither_file_nor_folder(place, name, alarm, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    kept = socket.socket(socket.AF_UNIX)
    if name.startswith("pipe"): os.mkfifo(name)
    elif name.startswith("socket"): kept.bind(name)
    else: os.symlink("/dev/zero", name)
    with kept: dataset, said = read_with_warning(place)
    assert len(dataset) == 1 and name in dataset.report["passed_over"] + [*dataset.report["skipped"]]
    assert name == "pipe" or "a pipe or a device" in said
    with pytest.raises(ValueError, match="a pipe or a device"): open_image(name)
    with pytest.raises(ValueError, match="a pipe or a device"): read_images(name, 16)
    with pytest.raises(ValueError, match="a pipe or a device"): ImageDataset.load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2): assert len(open_dataset(place, root=tmp_path / "root")) == 1


def test_pictures_are_opened_at_one_door():
    calls = [(p.stem, ast.unparse(n)) for p in (ROOT / "genae").glob("*.py") for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.Call) and ast.unparse(n.func) == "Image.open"]
    assert sorted(name for name, _ in calls) == ["diagrams", "images"] and all("formats=" in call for _, call in calls) # diagrams opens what it has drawn itself


@pytest.mark.skipif(sys.platform == "win32", reason="such names are not allowed there")
@pytest.mark.parametrize("name", ["red\x1b[31m.png", "two\nlines.png", "\u202egnp.exe.png"])
def test_names_are_shown_without_their_control_characters(place, name, tmp_path):
    (place / name).write_text("no picture")
    assert name.encode("unicode_escape").decode() in read_with_warning(place)[1]
    for f in (lambda: image_folder(place, on_bad="refuse"), lambda: read_images(place / name, 16), lambda: image_folder(place / name), lambda: ImageDataset.load(place / name),
              lambda: open_dataset(str(place / name), root=tmp_path)):
        with pytest.raises(ValueError) as e: f()
        assert name.encode("unicode_escape").decode() in line(e.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no umask there")
@pytest.mark.parametrize("umask, mode", [(0o022, "644"), (0o077, "600"), (0o002, "664")])
def test_files_are_as_private_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try: toyfaces(2, 8).save(tmp_path / "a.safetensors")
    finally: os.umask(before)
    assert oct((tmp_path / "a.safetensors").stat().st_mode)[-3:] == mode


# ---------------------------------------------------------------- equal pictures

@pytest.mark.parametrize("copies", [1, 2, 3])
def test_equal_pictures_are_on_one_side(copies):
    faces = toyfaces(24, 8)
    dataset = ImageDataset(faces.images.repeat(copies, 1, 1, 1), labels=torch.arange(24).repeat(copies))
    order = torch.randperm(len(dataset), generator=rng(0))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train, held_out = dataset.split(6)
    assert torch.equal(held_out.labels, dataset.labels[order[:6]]) # what is held out is what always was
    want = [l for l in dataset.labels[order[6:]].tolist() if l not in held_out.labels]
    assert train.labels.tolist() == want and (copies > 1) == (len(want) < len(dataset) - 6) == bool(said)
    if said: assert str(said[0].message).startswith(f"{len(dataset) - 6 - len(want)} pictures are equal to held-out ones")


def test_pictures_that_are_all_equal():
    with pytest.raises(ValueError, match="give pictures that differ"): ImageDataset(torch.zeros(9, 3, 4, 4, dtype=torch.uint8)).split(3)


# ---------------------------------------------------------------- files of data sets

IMAGES = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
ODD_BANKS = {
    "a list": (dict(images=IMAGES), "[]"), "a number": (dict(images=IMAGES), "8"), "nothing": (dict(images=IMAGES), "null"), "no JSON": (dict(images=IMAGES), "{"),
    "100,000 levels": (dict(images=IMAGES), "[" * 100_000 + "]" * 100_000), "100,000 levels of {}": (dict(images=IMAGES), '{"a":' * 100_000), "5,000 digits": (dict(images=IMAGES), "1" * 5_000),
    "no pictures": (dict(labels=torch.zeros(2)), "{}"), "skipped is a list": (dict(images=IMAGES), '{"skipped": [1]}'), "names is a number": (dict(images=IMAGES), '{"names": 8}'),
    "read is a text": (dict(images=IMAGES), '{"read": "many"}'), "floats": (dict(images=IMAGES.float()), "{}"), "no square": (dict(images=IMAGES[..., 1:]), "{}"), "none": (dict(images=IMAGES[:0]), "{}"),
    "a number for labels": (dict(images=IMAGES, labels=torch.tensor(1)), "{}"), "factors of another width": (dict(images=IMAGES, factors=torch.zeros(2, 3)), "{}"),
    "factors of bytes": (dict(images=IMAGES, factors=torch.zeros(2, 11, dtype=torch.uint8)), "{}"), "too few labels": (dict(images=IMAGES, labels=torch.zeros(1)), "{}"),
    "a tensor called report": (dict(images=IMAGES, report=torch.zeros(1)), "{}"), "a tensor called escape": ({"images": IMAGES, "\x1b[31m\n": torch.zeros(1)}, "{}")}


@pytest.mark.parametrize("case", ODD_BANKS)
def test_odd_bank(tmp_path, case):
    tensors, report = ODD_BANKS[case]
    save_file({k: t.contiguous() for k, t in tensors.items()}, str(tmp_path / "a.safetensors"), dict(dataset=report))
    with pytest.raises(ValueError, match="a.safetensors holds no data set") as e: ImageDataset.load(tmp_path / "a.safetensors")
    assert "made again" not in line(e.value) # it may be somebody's own


def test_bank_without_metadata(tmp_path):
    save_file(dict(images=IMAGES), str(tmp_path / "a.safetensors"))
    with pytest.raises(ValueError, match="holds no data set"): ImageDataset.load(tmp_path / "a.safetensors")


KEYS = st.sampled_from(["source", "read", "names", "skipped", "passed_over", "first_frame_of", "mark", "seed"]) | st.text(max_size=3)
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=8)
SHAPES = st.sampled_from([(), (2,), (2, 3), (2, 11), (3, 11), (2, 3, 4, 4), (2, 1, 4, 4), (2, 3, 4, 5), (0, 3, 4, 4)])
TENSORS = st.builds(lambda shape, dtype: torch.ones(shape, dtype=dtype), SHAPES, st.sampled_from([torch.uint8, torch.float32, torch.float16, torch.int64, torch.bool, torch.bfloat16]))
OURS = dict(images=st.just(IMAGES) | TENSORS)


@settings(max_examples=60, deadline=None, database=None)
@given(st.fixed_dictionaries(OURS, optional=dict(factors=TENSORS, labels=TENSORS, other=TENSORS)), st.dictionaries(KEYS, VALUES, max_size=4).map(json.dumps) | VALUES.map(json.dumps) | st.text(max_size=20))
def test_any_bank_file(tmp_path_factory, tensors, report):
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    save_file(tensors, str(path), dict(dataset=report))
    try: dataset = ImageDataset.load(path)
    except ValueError as e: line(e); return
    assert dataset.batch(torch.arange(2)).shape[:2] == (2, 3) and len(dataset.take(torch.tensor([1]))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _tell(dataset.report)


@settings(max_examples=40, deadline=None, database=None)
@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_any_damage_of_a_bank_file(tmp_path_factory, at, junk):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    ImageDataset(IMAGES, report=dict(source="x", names=["a"])).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:at % len(content)] + junk + content[at % len(content) + len(junk):])
    try: assert len(ImageDataset.load(path)) == 2
    except ValueError as e: line(e)


# ---------------------------------------------------------------- patterns

@pytest.mark.parametrize("layers, n", [(((5_000, 1),), 5_000), (((8, 1), (6, 2)), 120), (((300, 1),), 299)])
def test_a_crowded_space_ends(layers, n, alarm):
    crowded = draw_patterns(n, layers)
    assert not repeats(crowded.active).any()
    for m in (n // 3, n - 1): assert all(torch.equal(a, b[:m]) for a, b in zip(draw_patterns(m, layers).active, crowded.active)) # whatever n


@pytest.mark.parametrize("labels", [torch.arange(60) % 2, torch.ones(60, dtype=torch.int64)])
def test_a_crowded_space_keeps_clusters_and_what_is_avoided(labels, alarm):
    layers = ((8, 1), (6, 2))
    some = draw_patterns(60, layers, labels=labels, clusters=2)
    assert not repeats(some.active).any() and torch.equal(some.active[0][:, 0].long() // 4, labels)
    others = draw_patterns(60, layers, seed=1, avoid=some)
    assert not repeats([torch.cat(a) for a in zip(some.active, others.active)]).any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_there_is_room_patterns_are_what_they_always_were(seed):
    "Trained models know their patterns by the seed alone: whoever is equal to an earlier one draws again, and nothing else."
    drawn, attempt = random_draws(seed, torch.arange(60), [120]), 0
    while (again := repeats([drawn])).any():
        attempt += 1
        drawn[again] = random_draws(seed, torch.arange(60)[again], [120], attempt)
    assert 1 < attempt < ATTEMPTS and torch.equal(draw_patterns(60, ((120, 1),), seed).active[0].long(), drawn)


# ---------------------------------------------------------------- pictures and codes for the models

MODEL = Automodulator(8, 6, (4, 4), (1, 1)).eval()
CIPHER = DecipheringAutoencoder(16, ((8, 1), (16, 4)), num_images=4, widths=(8, 16, 32), latent_dim=8, bottleneck_channels=8).eval()
OTHER = draw_patterns(2)
X, Z = toyfaces(3, 8).batch(torch.arange(3)), MODEL.encode(toyfaces(3, 8).images)
WRONG = { # what is asked, and what is said
    "mix of nothing": (lambda: mix(MODEL, {}), "nothing to mix"),
    "mix of a list": (lambda: mix(MODEL, dict(coarse=[1.])), "not list"),
    "a layer for a key": (lambda: mix(MODEL, {1: X}, rest=X), "layers as a pair"),
    "sample 0": (lambda: MODEL.sample(0, rng(0)), "ask for 1 or more"),
    "sample -1": (lambda: MODEL.sample(-1, rng(0)), "ask for 1 or more"),
    "conditional 0": (lambda: conditional(MODEL, dict(coarse=X), 0, rng(0)), "ask for 1 or more"),
    "interpolate 0": (lambda: interpolate(MODEL, X, X, 0), "ask for 1 or more"),
    "interpolate 3 to 2": (lambda: interpolate(MODEL, X, X[:2], 4), "as many ends"),
    "edit by another width": (lambda: edit(MODEL, X, torch.ones(5), 1.), "an attribute is a vector"),
    "codes of another width": (lambda: MODEL.decode(Z[:, 1:]), r"codes are a tensor \(B, 6\)"),
    "one code": (lambda: MODEL.decode(Z[0]), r"make z\[None\]"),
    "a list of codes": (lambda: MODEL.decode([[1.]]), "not list"),
    "codes for other layers": (lambda: MODEL.decode(Z.expand(9, -1, -1)), "one for each layer"),
    "whole codes": (lambda: MODEL.decode(Z.long()), "int64: give floats"),
    "NaN codes": (lambda: MODEL.decode(Z * float("nan")), "NaN or infinite"),
    "infinite codes": (lambda: mix(MODEL, dict(coarse=Z / 0), rest=Z), "NaN or infinite"),
    "mix of whole codes": (lambda: mix(MODEL, dict(coarse=Z.long()), rest=Z), "int64: give floats"),
    "mix of another width": (lambda: mix(MODEL, dict(coarse=Z[:, 1:]), rest=Z), r"codes \(B, 6\)"),
    "no patterns": (lambda: CIPHER.decipher(Z), "not a Tensor"),
    "other patterns": (lambda: CIPHER.decipher(OTHER), r"\(8, 16\) needed"),
    "ways between other patterns": (lambda: CIPHER.interpolate(OTHER, OTHER, 3), r"\(8, 16\) needed"),
    "ways from 2 to 1": (lambda: CIPHER.interpolate(CIPHER.patterns(2), CIPHER.patterns(1), 3), "as many ends"),
    "ways of 0": (lambda: CIPHER.interpolate(CIPHER.patterns(2), CIPHER.patterns(2), 0), "ask for 1 or more"),
    "cipher sample 0": (lambda: CIPHER.sample(0, rng(0)), "ask for 1 or more"),
    "cipher sample -1": (lambda: CIPHER.sample(-1, rng(0)), "ask for 1 or more"),
    "NaN pictures": (lambda: MODEL.encode(X * float("nan")), "none of them NaN"),
    "one NaN pixel": (lambda: MODEL.reconstruct(torch.where(X == X.max(), float("nan"), X)), "none of them NaN"),
    "pictures to 255": (lambda: MODEL.encode(X * 255), r"give floats in \[-1, 1\]")}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_refused_in_words(case):
    ask, why = WRONG[case]
    with pytest.raises(ValueError, match=why) as e: ask()
    line(e.value)


def test_pictures_in_zero_to_one_are_noticed():
    with pytest.warns(UserWarning, match="give 2 \\* x - 1"): MODEL.encode((X + 1) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for fine in (X, toyfaces(1, 8).images.clamp(min=200), torch.zeros(1, 3, 8, 8)): MODEL.encode(fine) # bright bytes are bright


def test_codes_come_to_the_precision_of_the_model():
    assert torch.equal(MODEL.decode(Z.double()), MODEL.decode(Z))
