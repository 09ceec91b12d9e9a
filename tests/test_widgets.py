"StyleMixer: its picture is a function of its state, and a browser shows that picture."
import base64
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from house import ROOT, Notebook, directives
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genae.automodulator import Automodulator
from genae.core import rng, to_float, to_uint8
from genae.mixing import mix
from genae.widgets import FILE_LIMIT, MixState, StyleMixer, read_upload

PAGE = ROOT / "nbs" / "41_mixing_demo.ipynb"
PATIENCE = 120 # seconds for anything in the browser: the machine may be busy
UPLOAD = 60 # seconds for the largest file to arrive
SLOW = 2_000 # milliseconds from a key to the new picture; the design asks for 150
ARGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()


def pixels(im): return np.array(im.convert("RGB"))


def encoded(a, kind="png", **k):
    "An array or a picture as the bytes of a file."
    data = io.BytesIO()
    (a if isinstance(a, Image.Image) else Image.fromarray(a)).save(data, kind, **k)
    return data.getvalue()


def noise(h, w, seed=0): return np.random.default_rng(seed).integers(0, 256, (h, w, 3), "uint8")


# ---------------------------------------------------------------- the pure part

@pytest.fixture(params=[8, 16, 32])
def mixer(request):
    torch.manual_seed(0)
    size = request.param
    return StyleMixer(Automodulator(size=size), torch.randint(256, (4, 3, size, size), generator=rng(1), dtype=torch.uint8))


def every(mixer):
    "All pairs of cuts, with other pictures each time."
    n = mixer.model.decoder.n
    return [MixState((j + k) % 4, (j + 1) % 4, (k + 2) % 4, (j, k)) for j in range(n + 1) for k in range(j, n + 1)]


def test_the_same_state_gives_the_same_bytes(mixer):
    drawn = [sha256(mixer.render(s).tobytes()).digest() for s in every(mixer)]
    again = StyleMixer(mixer.model, to_float(torch.stack(mixer.pictures)))
    again.add(255 - again.pictures[0])
    assert [sha256(again.render(s).tobytes()).digest() for s in reversed(every(again))] == drawn[::-1]
    assert len(set(drawn)) == len(drawn)


def test_the_picture_holds_the_mixture(mixer):
    for state in every(mixer):
        j, k = state.cuts
        x = [to_float(mixer.pictures[i][None]) for i in (state.coarse, state.middle, state.fine)]
        ends = ((1, j), (j + 1, k), (k + 1, mixer.model.decoder.n))
        want = to_uint8(mix(mixer.model, {e: p for e, p in zip(ends, x) if e[0] <= e[1]}))[0].permute(1, 2, 0).numpy()
        shown = pixels(mixer.render(state))[-388:-4, -388:-4]
        zoom = 384 // mixer.model.size
        assert (shown[::zoom, ::zoom] == want).all() and (shown == want.repeat(zoom, 0).repeat(zoom, 1)).all()


def test_one_picture_alone_is_its_reconstruction(mixer):
    n = mixer.model.decoder.n
    for number, cuts in ((0, (n, n)), (1, (0, n)), (2, (0, 0))):
        x = to_float(mixer.pictures[number][None])
        assert torch.equal(mixer.mixture(MixState(cuts=cuts)), mixer.model.reconstruct(x))


def test_the_first_state_is_the_scales(mixer):
    scales = mixer.model.decoder.scales()
    assert mixer.first.ranges(mixer.model.decoder.n) == scales


def test_nothing_is_learned(mixer):
    assert not mixer.mixture(mixer.first).requires_grad and not mixer.model.training


def test_the_strip_is_made_of_renders(mixer):
    states = every(mixer)[:2]
    parts, strip = [pixels(mixer.render(s, 128)) for s in states], pixels(mixer.strip(states, 128))
    w = parts[0].shape[1]
    assert (strip[:, :w] == parts[0]).all() and (strip[:, -w:] == parts[1]).all() and (strip[:, w:-w] == 255).all()
    assert (pixels(Image.open(io.BytesIO(mixer._repr_png_()))) == pixels(mixer.strip())).all()


@pytest.mark.parametrize("change, complaint", [
    (dict(cuts=(2, 1)), "two layers from 0 to"), (dict(cuts=(0, 99)), "two layers"), (dict(cuts=(-1, 2)), "two layers"), (dict(cuts=(1,)), "two layers"),
    (dict(coarse=4), "no picture 4: choose 0 to 3"), (dict(fine=-1), "no picture -1")])
def test_a_wrong_state_is_refused(mixer, change, complaint):
    with pytest.raises(ValueError, match=complaint): mixer.render(replace(mixer.first, **change))


def test_wrong_pictures_are_refused(mixer):
    s = mixer.model.size
    for shape in ((2, s, s), (3, s, s + 1), (1, 3, s, s)):
        with pytest.raises(ValueError, match="pictures"): mixer.add(torch.zeros(shape))
    with pytest.raises(ValueError, match="no pictures"): StyleMixer(mixer.model, torch.zeros(0, 3, s, s))


# ---------------------------------------------------------------- files that people upload

def turned():
    "A photograph that lies on its side, as telephones write it."
    exif = Image.Exif()
    exif[274] = 6
    return encoded(noise(40, 40), exif=exif)


@pytest.mark.parametrize("content, want", [
    (encoded(noise(32, 32)), noise(32, 32)),
    (encoded(noise(32, 64)), noise(32, 64)[:, 16:48]),
    (encoded(noise(64, 32)), noise(64, 32)[16:48]),
    (encoded(noise(32, 32), "webp", lossless=True), noise(32, 32)),
    (encoded(noise(32, 32)[:, :, 0]), noise(32, 32)[:, :, [0, 0, 0]]),
    (encoded(Image.new("RGBA", (50, 50), (9, 9, 9, 0))), np.full((32, 32, 3), 255, "uint8"))], ids="exact wide high webp grey transparent".split())
def test_pictures_are_read(content, want):
    assert (to_uint8(read_upload(content, 32)).permute(1, 2, 0).numpy() == want).all()


def test_a_photograph_is_turned_upright():
    want = Image.fromarray(noise(40, 40)).rotate(-90).resize((32, 32), Image.Resampling.BICUBIC)
    assert (to_uint8(read_upload(turned(), 32)).permute(1, 2, 0).numpy() == pixels(want)).all()


def test_a_jpg_is_read():
    flat = Image.new("RGB", (90, 50), (200, 100, 50))
    assert (read_upload(encoded(flat, "jpeg"), 16) - read_upload(encoded(flat), 16)).abs().max() < .05


@pytest.mark.parametrize("content, complaint", [
    (b"", "no png, jpg or webp"), (b"%PDF-1.7", "no png"), (encoded(noise(32, 32), "gif"), "no png"), (encoded(noise(32, 32), "tiff"), "no png"),
    (encoded(noise(90, 90))[:9_000], "damaged"), (encoded(noise(90, 90), "jpeg")[:2_000], "damaged"), (encoded(noise(9, 90)), "90 x 9 pixels are too few"),
    (encoded(Image.new("1", (9_000, 9_000))), "too many pixels"), (encoded(Image.new("1", (15_000, 15_000))), "too many pixels"),
    (bytes(FILE_LIMIT + 1), "MB are too much")], ids=range(10))
def test_bad_files_are_answered_in_one_line(content, complaint, recwarn):
    with pytest.raises(ValueError, match=complaint) as e: read_upload(content, 32)
    assert "\n" not in str(e.value) and not recwarn.list


@given(kind=st.sampled_from(["png", "jpeg", "webp"]), cut=st.floats(0, 1), at=st.floats(0, .999), byte=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_a_picture_or_one_line(kind, cut, at, byte):
    content = bytearray(encoded(noise(20, 20), kind))
    content[int(at * len(content))] = byte
    try: assert read_upload(bytes(content[:int(cut * len(content)) + 1]), 16).shape == (3, 16, 16)
    except ValueError as e: assert "\n" not in str(e)


# ---------------------------------------------------------------- the shell, without a browser

def displayed(shell): return pixels(Image.open(io.BytesIO(shell.parts["image"].value)))


def put(shell, name, content):
    shell.parts["upload"].value = (dict(name=name, type="", size=len(content), content=memoryview(content), last_modified=datetime(2026, 1, 1)),)


def test_every_control_leads_to_render(mixer):
    shell = mixer.widget()
    for state in every(mixer):
        for scale in ("coarse", "middle", "fine"): shell.parts[scale].value = getattr(state, scale)
        shell.parts["split"].value = state.cuts
        assert (displayed(shell) == pixels(mixer.render(state))).all()


def test_a_change_is_drawn_once(mixer, monkeypatch):
    shell, drawn, render = mixer.widget(), [], StyleMixer.render
    monkeypatch.setattr(StyleMixer, "render", lambda *a: drawn.append(a) or render(*a))
    shell.parts["split"].value = (0, 1)
    shell.parts["fine"].value = 0
    put(shell, "a.png", encoded(noise(64, 64)))
    assert len(drawn) == 3


def test_an_upload_is_added_and_chosen(mixer):
    shell, before = mixer.widget(), len(mixer.pictures)
    put(shell, "a.png", encoded(noise(70, 90)))
    assert len(mixer.pictures) == before + 1 and shell.parts["upload"].value == ()
    assert all(shell.parts[scale].value == before and len(shell.parts[scale].options) == before + 1 for scale in ("coarse", "middle", "fine"))
    assert torch.equal(mixer.codes[before], mixer.model.encode(read_upload(encoded(noise(70, 90)), mixer.model.size)[None]))
    assert (displayed(shell) == pixels(mixer.render(MixState(before, before, before, mixer.first.cuts)))).all()


def test_a_bad_upload_changes_nothing(mixer):
    shell, before = mixer.widget(), len(mixer.pictures)
    picture = displayed(shell)
    put(shell, "<script>.png", b"no picture")
    assert len(mixer.pictures) == before and (displayed(shell) == picture).all()
    assert "&lt;script&gt;.png was not added: this is no png, jpg or webp picture." in shell.parts["said"].value


# ---------------------------------------------------------------- the page, in a browser

def chromium():
    "The browser's path. Without one these tests are skipped on a desk, but not where CI=true says that they must run."
    if path := shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"): return path
    return (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no chromium: apt-get install chromium fonts-dejavu-core")


@pytest.mark.parametrize("ci, outcome", [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_without_a_browser(ci, outcome, monkeypatch):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(outcome, match="apt-get install chromium"): chromium()


def twin():
    "The mixer of the page, made in this process by the page's own cells."
    names = {}
    for cell in Notebook(PAGE).code:
        if not directives(cell): exec(cell.source, names)
    return names["mixer"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    "Voila with the page, as in a class."
    chromium()
    home = tmp_path_factory.mktemp("voila")
    with socket.create_server(("127.0.0.1", 0)) as s: port = s.getsockname()[1]
    places = {name: str(home / name.lower()) for name in ("HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    with open(home / "log", "w") as log:
        server = subprocess.Popen([Path(sys.executable).with_name("voila"), PAGE, "--no-browser", f"--port={port}"], stdout=log, stderr=log, cwd=ROOT,
                                  env=os.environ | places | dict(OMP_NUM_THREADS="1", MPLBACKEND="agg", GENAE_DEVICE="cpu"))
        try:
            end = time.time() + PATIENCE
            while True:
                try: socket.create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    assert server.poll() is None and time.time() < end, (home / "log").read_text()
                    time.sleep(.1)
                else: break
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.wait()


def written(): return {p.name: p.stat().st_mtime_ns for p in (ROOT / "genae").glob("*.py")}


@pytest.fixture(scope="module")
def page(address):
    "The page as a class sees it. Nothing but this machine is reached."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=ARGS, timeout=PATIENCE * 1000)
        page = browser.new_page(viewport=dict(width=1280, height=800))
        page.set_default_timeout(PATIENCE * 1000)
        page.route("**/*", lambda r: r.continue_() if r.request.url.startswith((address, "blob:", "data:")) else r.abort())
        page.before = written()
        page.goto(address, wait_until="commit")
        page.locator("img.widget-image").wait_for()
        yield page
        browser.close()


READ = """async () => {
  const bytes = new Uint8Array(await (await fetch(document.querySelector("img.widget-image").src)).arrayBuffer());
  return btoa(Array.from(bytes, b => String.fromCharCode(b)).join(""));
}"""
WATCH = """() => {
  window.waits = [];
  let start = null;
  document.addEventListener("keydown", () => { start = performance.now(); }, true);
  document.querySelector("img.widget-image").addEventListener("load", () => { if (start) waits.push(performance.now() - start); start = null; });
}"""


def shows(page, want):
    "Whether the image in the page becomes a picture, pixel by pixel."
    end = time.time() + PATIENCE
    while time.time() < end:
        try: got = pixels(Image.open(io.BytesIO(base64.b64decode(page.evaluate(READ)))))
        except Exception as e: # the image was being replaced
            if "Failed to fetch" not in str(e): raise
        else:
            if got.shape == want.shape and (got == want).all(): return True
        page.wait_for_timeout(50)


def choose(page, content, name="a.png"):
    with page.expect_file_chooser() as chooser: page.get_by_role("button", name="Add a picture").click()
    chooser.value.set_files([dict(name=name, mimeType="image/png", buffer=content)])


def test_the_page_shows_what_render_gives(page, report, tmp_path):
    mixer = twin()
    n, state = mixer.model.decoder.n, mixer.first
    assert shows(page, pixels(mixer.render(state)))
    assert page.locator("input:checked").count() == 3
    page.evaluate(WATCH)
    lower, upper = page.locator(".noUi-handle-lower"), page.locator(".noUi-handle-upper")
    moves = [(lower, "ArrowLeft", -1, 0)] * state.cuts[0] + [(upper, "ArrowRight", 0, 1)] * (n - state.cuts[1]) + [(lower, "ArrowRight", 1, 0)] * n
    for handle, key, a, b in moves:
        state = replace(state, cuts=(state.cuts[0] + a, state.cuts[1] + b))
        handle.focus()
        page.keyboard.press(key)
        assert shows(page, pixels(mixer.render(state))), state
    waits = page.evaluate("waits")
    assert len(waits) == len(moves)
    report(f"mixing page: {statistics.median(waits):.0f} ms from a key to the new picture, at most {max(waits):.0f}, in {len(waits)} changes")
    assert statistics.median(waits) < SLOW
    assert page.get_by_role("status").inner_text() == f"Picture 1 drives layers 1 to {n}."
    page.get_by_role("radio", name="coarse: picture 6").check()
    state = replace(state, coarse=5)
    assert shows(page, pixels(mixer.render(state)))
    content = encoded(noise(90, 150))
    choose(page, content)
    added = mixer.add(read_upload(content, mixer.model.size))
    assert shows(page, pixels(mixer.render(MixState(added, added, added, state.cuts))))
    lower.focus()
    for _ in range(n): page.keyboard.press("ArrowLeft")
    page.get_by_role("radio", name="middle: picture 3").check()
    assert shows(page, pixels(mixer.render(MixState(added, 2, added, (0, n)))))


def test_the_page_answers_a_bad_upload_in_one_line(page):
    before = page.evaluate(READ)
    choose(page, b"no picture", "<b>essay</b>.png")
    said = page.get_by_role("status", name="").filter(has_text="was not added")
    said.wait_for()
    assert said.inner_text() == "<b>essay</b>.png was not added: this is no png, jpg or webp picture."
    assert page.evaluate(READ) == before


def test_the_page_is_for_a_class(page):
    "All of it fits a projector; what belongs to the book is not shown."
    assert page.locator("h1").inner_text().startswith("41 Mixing demo")
    for part in ("img.widget-image", ".noUi-base", ".widget-upload"):
        box = page.locator(part).first.bounding_box()
        assert box["x"] >= 0 and box["y"] >= 0 and box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 800, part
    assert not page.get_by_text("Exercises").is_visible() and not page.get_by_text("Traceback").count()


def test_the_page_answers_a_file_that_is_too_large(page):
    "The browser looks at its size and sends nothing; a server that got it would close the line, and later uploads would be lost."
    before = page.evaluate(READ)
    choose(page, bytes(FILE_LIMIT + 1), "<b>holiday</b>.png")
    said = page.get_by_role("status", name="").filter(has_text="10 MB are the most")
    said.wait_for()
    assert said.inner_text() == "<b>holiday</b>.png was not added: 10 MB are the most: make it smaller first." and page.evaluate(READ) == before
    there = page.get_by_role("radio", name="coarse: picture").count()
    choose(page, encoded(noise(80, 80)) + bytes(FILE_LIMIT - 30_000), "large.png") # nearly as large as allowed, with the envelope larger than tornado's own limit
    page.get_by_role("radio", name=f"coarse: picture {there + 1}").wait_for(state="attached", timeout=UPLOAD * 1000) # a server that has closed the line never answers


def test_the_server_lets_through_what_the_browser_does():
    "With the envelope of a message."
    config = json.loads((ROOT / "voila.json").read_text())
    assert config["Voila"]["tornado_settings"]["websocket_max_message_size"] > FILE_LIMIT + 2**20


def test_visitors_do_not_export_the_package(page): assert written() == page.before


def test_the_page_stores_no_widget():
    text = PAGE.read_text()
    assert "widget-view" not in text and "widget-state" not in text and "image/png" in text
