"The commands as a user meets them: processes of their own, interrupted, killed, and given what cannot work."
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import tool
from genae.core import rng, show
from genae.engine import STOPS, Engine, checkpoints, fingerprint
from genae.faces import draw_faces, random_factors
from genae.files import load_state, bundled_weights
from genae.cli import from_shell, open_model, plain_errors
from genae.growing import scale_schedule, growth_at
from genae.perceptual import small_perceptual
from genae.runs import HEARD, go_on, interrupt, open_data
from genae.train_automodulator import CLASS_PHASES
from house import ROOT

COMMANDS = [line.split("=")[0] for line in (ROOT / "settings.ini").read_text().partition("console_scripts = ")[2].splitlines()[0].split()]
CALM = dict(OMP_NUM_THREADS="1", GENAE_DEVICE="cpu", MPLBACKEND="agg")


# ---- a run that is stopped

TINY = """# a console script, with one more recipe for each model: small, growing from 8 to 16 pixels, with the robust loss; small, with clusters, mirrors and two stages
import runpy, sys
from dataclasses import replace
from genae import train_deciphering
from genae.train_automodulator import RECIPES
from genae.runs import MODELS
phases = tuple(replace(p, batch=16) for p in RECIPES["class"].phases)
RECIPES["tiny"] = replace(RECIPES["class"], phases=phases, distance="robust", model=dict(widths=(16, 16, 16), latent_dim=8))
net, most = dict(widths=(8, 16, 32), latent_dim=8, bottleneck_channels=8, clusters=4), MODELS["deciphering"].most
train_deciphering.RECIPES["tiny"] = replace(train_deciphering.RECIPES["class"], layers=((8, 1), (16, 4)), model=net, batch=16, mirror=True)
most["tiny"] = 128
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PICTURES, SAVE_EVERY = 2400, 3


def begin(folder, model="automodulator"):
    "Start, or go on with, the tiny run of a model in a folder."
    script = folder.parent / "tiny.py"
    if not script.exists(): script.write_text(TINY)
    command = [sys.executable, script, Path(sys.executable).with_name("genae_train"), model, "--recipe", "tiny", "--size", 16, "--total_images", PICTURES,
               "--save_every", SAVE_EVERY, "--out", folder, "--quiet"]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | CALM)


def end(process):
    said, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), errors
    return said


def progress(folder):
    found = checkpoints(folder) # for a moment there may be the former one alone
    return load_state(found[0])["images_seen"] / PICTURES if found else 0.


def stop(process, folder, part, number, later=0.):
    "Send a signal once a part of the run is in the checkpoint; how far that had come."
    reached = 0.
    while process.poll() is None and reached < part:
        time.sleep(.05)
        try: reached = progress(folder)
        except (ValueError, OSError): pass # safetensors opens a file twice by its name, and a newer one was put in its place in between
    time.sleep(later)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    return process.returncode, said, errors


def digest(folder):
    "SHA-256 of the weights."
    found, weights = hashlib.sha256(), load_state(folder / "model.safetensors")["weights"]
    for name in sorted(weights): found.update(name.encode() + weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def others(folder):
    "The files that hold no date and no duration."
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in (".png", ".jsonl")}


def alpha(part): return growth_at(scale_schedule(CLASS_PHASES, 16), part * sum(p.images for p in scale_schedule(CLASS_PHASES, 16)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder, start = tmp_path_factory.mktemp("whole") / "run", time.time()
    end(begin(folder))
    return folder, time.time() - start


def test_ctrl_c_and_sigterm(whole, tmp_path, report):
    folder = tmp_path / "run"
    for number, status, part in ((signal.SIGINT, 130, .2), (signal.SIGTERM, 143, .6)):
        returned, said, errors = stop(begin(folder), folder, part, number)
        done = load_state(folder / "checkpoint.safetensors")["done"]
        assert (returned, errors) == (status, "") and f"Stopped after step {done}. The same command goes on" in said, (returned, said, errors)
        assert json.loads((folder / "run.json").read_text()).keys() == {"run"} and not (folder / "model.safetensors").exists()
    assert f"Going on after step {done} (" in end(begin(folder))
    report(f"weights after SIGINT and SIGTERM {digest(folder)}")
    assert digest(folder) == digest(whole[0]) and others(folder) == others(whole[0])


def test_killed_five_times(whole, tmp_path, report):
    folder, seed = tmp_path / "run", random.randrange(10 ** 6)
    chance, reached = random.Random(seed), []
    for low, high in ((.02, .2), (.26, .34), (.36, .44), (.5, .7), (.75, .9)): # the second and the third are in the fade-in
        before = progress(folder)
        returned, _, errors = stop(begin(folder), folder, chance.uniform(low, high), signal.SIGKILL, later=chance.uniform(0, .1))
        assert (returned, errors) == (-signal.SIGKILL, ""), f"seed {seed}: {errors}"
        reached.append(progress(folder))
        assert before < reached[-1] < 1
    assert f"Going on after step" in end(begin(folder))
    stages = [alpha(part) for part in reached]
    report(f"killed with checkpoints at {', '.join(f'{r:.0%} ({s.phase.size} px, alpha {s.alpha_fade:.2f})' for r, s in zip(reached, stages))}; moments of seed {seed}")
    report(f"weights after five SIGKILL    {digest(folder)}")
    report(f"weights, never interrupted    {digest(whole[0])}, {whole[1]:.0f} s")
    assert sum(s.phase.size == 16 and 0 < s.alpha_fade < 1 for s in stages) >= 2
    assert digest(folder) == digest(whole[0]) and others(folder) == others(whole[0])


def test_a_cipher_killed_five_times(tmp_path, report):
    whole, folder, seed = tmp_path / "whole", tmp_path / "run", random.randrange(10 ** 6)
    undisturbed = begin(whole, "deciphering") # beside the other, on a core of its own if there is one
    chance, reached = random.Random(seed), []
    for low, high in ((.02, .2), (.26, .4), (.45, .6), (.66, .7), (.75, .9)): # the second stage begins at two thirds
        before = progress(folder)
        returned, _, errors = stop(begin(folder, "deciphering"), folder, chance.uniform(low, high), signal.SIGKILL, later=chance.uniform(0, .1))
        assert (returned, errors) == (-signal.SIGKILL, ""), f"seed {seed}: {errors}"
        reached.append(progress(folder))
        assert before < reached[-1] < 1
    end(begin(folder, "deciphering")), end(undisturbed)
    report(f"a cipher killed with checkpoints at {', '.join(f'{r:.0%}' for r in reached)}; moments of seed {seed}")
    report(f"its weights after five SIGKILL {digest(folder)}")
    report(f"never interrupted              {digest(whole)}")
    assert digest(folder) == digest(whole) and others(folder) == others(whole)


def test_a_finished_run_makes_its_outputs_again(whole):
    folder, before = whole[0], (digest(whole[0]), others(whole[0]))
    for name in ("model.safetensors", "samples.png"): (folder / name).unlink()
    assert "This run is finished" in end(begin(folder))
    assert (digest(folder), others(folder)) == before


# ---- what a user gets wrong: a line on stderr, a status, and no traceback

WRONG = { # command and options: what the line must say
    "genae_train autoencoder": "choose one of automodulator",
    "genae_train --recipe secret": "choose one of paper, reference, class",
    "genae_train --size 24": "pictures must be 4, 8, 16",
    "genae_train --total_images 0": "give a number above 0",
    "genae_train --minutes nan": "give a number above 0",
    "genae_train --save_every -1": "give a number above 0",
    "genae_train --seed -1": "give a whole number from 0",
    "genae_train --data nowhere": "neither a folder nor a known set",
    "genae_train --data few": "2 pictures are too few",
    "genae_train --data fashion-mnist": "could not be fetched",
    "genae_train --size 8 --out text.txt/run": "text.txt/run",
    "genae_train --size 8 --seed 3 --out held": "size is 16 there and 8 here, seed is 0 there and 3 here",
    "genae_train --out torn": "damaged",
    "genae_train --size 8 --out broken": "damaged",
    "genae_demo --images nowhere": "neither a folder nor a known set",
    "genae_demo --images few": "2 pictures are too few",
    "genae_demo --recipe secret": "choose one of",
    "genae_demo --size 8 --out text.txt/demo": "text.txt/demo",
    "genae_demo --out broken": "size is 8 there and 16 here",
    "genae_demo --minutes 0": "give a number above 0",
    "genae_evaluate --table secret": "choose one of",
    "genae_evaluate --seeds 0": "give a number above 0",
    "genae_train deciphering --size 24": "16 divides it",
    "genae_train deciphering --data few": "give --recipe lpips",
    "genae_train --out old": "no run.json",
    "genae_sample --n 0": "give a number above 0",
    "genae_sample --seed -1": "give a whole number from 0",
    "genae_sample --model nowhere": "choose toyfaces",
    "genae_sample --model empty": "choose toyfaces",
    "genae_sample --model cut.safetensors": "damaged",
    "genae_sample --model foreign.safetensors": "not written by genae",
    "genae_sample --out samples.xyz": "unknown file extension",
    "genae_sample --out text.txt/samples.png": "text.txt",
    "genae_reconstruct": "--images",
    "genae_reconstruct --images nowhere.png": "nowhere.png does not exist",
    "genae_reconstruct --images text.txt": "text.txt cannot be read as a picture",
    "genae_reconstruct --images few/0.png cut.png": "cut.png cannot be read as a picture",
    "genae_reconstruct --images few/0.png tiny.png": "tiny.png cannot be read as a picture (ValueError: 4x4 pixels are too few",
    "genae_reconstruct --images empty": "holds no pictures",
    "genae_reconstruct few --model deciphering_toyfaces": "never learned to read pictures",
    "genae_reconstruct --images few/0.png --model cut.safetensors": "damaged",
    "genae_mix": "give two or three pictures",
    "genae_mix --coarse few/0.png --fine nowhere.png": "nowhere.png does not exist",
    "genae_mix --coarse few/0.png --images few": "either",
    "genae_mix --images few --scale huge": "choose one of coarse, middle, fine",
    "genae_mix --scale fine": "--images",
    "genae_mix few/0.png few/0.png few/0.png few/0.png": "give no more",
    "genae_mix few few/0.png": "few is a folder",
    "genae_mix --coarse few/0.png --out text.txt/mix.png": "text.txt",
}
FINE = [f"{name} --help" for name in COMMANDS] + ["genae_sample --n lots", "genae_sample --number 3", "genae_reconstruct --images mixed --out pairs.png"]
DEMO = ["genae_demo --size 8 --total_images 64", "genae_demo --total_images 64 --size 8", "genae_demo --size 8 --total_images 64 --images holidays"]
SERVER = """# one process imports; each case is a fork of it that runs the console script, and ends without tidying up a large process
import json, os, runpy, sys, traceback
from pathlib import Path
import genae.cli, torchvision
codes = []
for i, case in enumerate(json.loads(Path("cases.json").read_text())):
    name, *options = case.split()
    if (child := os.fork()) == 0:
        for stream in (1, 2): os.dup2(os.open(f"{i}.{stream}", os.O_CREAT | os.O_WRONLY), stream)
        sys.argv = [str(Path(sys.executable).with_name(name)), *options]
        status = 99 # a console script never returns
        try: runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else int(e.code is not None)
            if isinstance(e.code, str): print(e.code, file=sys.stderr)
        except BaseException: traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush(), os._exit(status)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
Path("codes.json").write_text(json.dumps(codes))
"""


def furnish(place):
    "A folder with everything in it that can be wrong, and one of pictures that are not."
    for name in ("few", "mixed", "empty", "held", "torn", "broken", "old", "holidays"): (place / name).mkdir()
    for i, x in enumerate(draw_faces(random_factors(2, rng(3)), size=32)):
        for name in ("few", "mixed"): show(x[None], height=1).save(place / name / f"{i}.png")
    for i, x in enumerate(draw_faces(random_factors(34, rng(3)), size=8)): show(x[None], height=1).save(place / "holidays" / f"{i}.png")
    show(draw_faces(random_factors(1, rng(3)), size=8)[..., :4, :4], height=1).save(place / "tiny.png")
    picture, weights = (place / "few" / "0.png").read_bytes(), bundled_weights("automodulator")["toyfaces"].read_bytes()
    for path in ("cut.png", "mixed/2.png"): (place / path).write_bytes(picture[:len(picture) // 2])
    (place / "text.txt").write_text("Neither a picture nor a folder.")
    (place / "cut.safetensors").write_bytes(weights[:len(weights) // 2])
    (place / "foreign.safetensors").write_bytes((bundled_weights("automodulator")["toyfaces"].parent / "reader_16.safetensors").read_bytes())
    settings = dict(model="automodulator", data="toyfaces", size=16, recipe="sharp", total_images=None, minutes=None, seed=0)
    (place / "held" / "run.json").write_text(json.dumps(dict(run=settings)))
    (place / "torn" / "run.json").write_text('{"run": {"model"')
    (place / "broken" / "run.json").write_text(json.dumps(dict(run=settings | dict(size=8, perceptual=small_perceptual().name, training_pictures=fingerprint(open_data("toyfaces", 8, 0)[0].images)))))
    for name in ("broken", "old"): (place / name / "checkpoint.safetensors").write_bytes(weights[:len(weights) // 2])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("answers")
    furnish(place)
    return place


@pytest.fixture(scope="module")
def answers(place):
    cases = [*WRONG, *FINE, *DEMO]
    (place / "cases.json").write_text(json.dumps(cases))
    nowhere = dict(GENAE_DATA=str(place / "sets"), http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9", no_proxy="") # nothing is fetched here
    r = subprocess.run([sys.executable, "-c", SERVER], cwd=place, capture_output=True, text=True, env=os.environ | CALM | nowhere, timeout=300)
    assert r.returncode == 0, r.stderr
    codes = json.loads((place / "codes.json").read_text())
    return {case: (codes[i], (place / f"{i}.1").read_text(), (place / f"{i}.2").read_text()) for i, case in enumerate(cases)}


@pytest.mark.parametrize("case", WRONG)
def test_errors_are_one_line(case, answers):
    status, _, errors = answers[case]
    assert status == 1 and "Traceback" not in errors, errors
    assert errors.count("\n") == 1 and errors.startswith(case.split()[0] + ": ") and WRONG[case] in errors, errors


@pytest.mark.parametrize("name", COMMANDS)
def test_help(name, answers):
    status, said, errors = answers[f"{name} --help"]
    assert (status, errors) == (0, "") and f"Example: {name} " in " ".join(said.split())


@pytest.mark.parametrize("case", ["genae_sample --n lots", "genae_sample --number 3"])
def test_options_that_cannot_be_parsed(case, answers):
    status, said, errors = answers[case]
    assert (status, said) == (2, "") and "Traceback" not in errors and errors.splitlines()[-1].startswith("genae_sample: error: "), errors


def test_skipped_pictures_are_named(answers):
    status, said, errors = answers["genae_reconstruct --images mixed --out pairs.png"]
    assert status == 0 and "Mean absolute error of 2 pictures" in said
    assert errors.count("\n") == 1 and errors.startswith("genae_reconstruct: mixed: 2 pictures read, 1 skipped: 2.png"), errors


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_a_command_with_its_status(number, monkeypatch, capsys):
    @plain_errors
    def genae_wait(): signal.raise_signal(number)
    monkeypatch.setattr(sys, "argv", ["genae_wait"])
    usual = {s: signal.getsignal(s) for s in STOPS}
    try:
        with pytest.raises(SystemExit) as e: from_shell(genae_wait)
    finally:
        for s, handler in usual.items(): signal.signal(s, handler)
    assert (e.value.code, capsys.readouterr().err) == (128 + number, "genae_wait: stopped\n")


def test_what_is_ignored_stays_ignored(monkeypatch):
    "As under nohup."
    @plain_errors
    def genae_wait(): signal.raise_signal(signal.SIGHUP); return 7
    monkeypatch.setattr(sys, "argv", ["genae_wait"])
    usual = {s: signal.getsignal(s) for s in STOPS}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try: assert from_shell(genae_wait) == 7
    finally:
        for s, handler in usual.items(): signal.signal(s, handler)


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("GENAE_DEVICE", "abacus")
    with pytest.raises(ValueError, match="^GENAE_DEVICE is abacus, which is not to be had here"): open_model("toyfaces")


def test_demo(answers, place):
    "As `make demo` calls it, but short; and again, and with other pictures."
    first, again, other = (answers[case] for case in DEMO)
    assert first[0] == 0 and "Traceback" not in first[2], first
    wanted = {"mixing_coarse.png", "mixing_fine.png", "reconstructions.png", "samples.png", "model.safetensors", "run.json",
              "checkpoint.safetensors", "checkpoint.previous.safetensors", "log.jsonl", ".lock"}
    assert {p.name for p in (place / "demo").iterdir()} == wanted
    assert "This run is finished" in again[1]
    assert other[0] == 0 and "the run is in demo-holidays" in other[1] and (place / "demo-holidays" / "samples.png").exists(), other
    assert "@genae_demo" in (ROOT / "Makefile").read_text() and "--out" not in (ROOT / "Makefile").read_text()


def test_a_signal_that_an_import_swallows(capsys):
    "It is noted, and no step is made."
    steps, engine = [], Engine(lambda t: steps.append(t) or (1, {}), {})
    engine.total = 5
    try:
        with pytest.raises(KeyboardInterrupt): interrupt(signal.SIGTERM) # and whoever is interrupted goes on
        with pytest.raises(SystemExit) as e: go_on(engine, quiet=True)
    finally: HEARD.clear()
    assert (e.value.code, steps) == (143, []) and "Stopped after step 0" in capsys.readouterr().out
    go_on(engine, quiet=True)
    assert len(steps) == 5
