"Runs and their files under attack: two processes, torn files, full disks, signals, settings of strangers."
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file

from genae import train_automodulator, train_deciphering
from genae.automodulator import Automodulator
from genae.cli import plain_errors
from genae.datasets import toyfaces
from genae.deciphering import DecipheringAutoencoder
from genae.engine import Engine, locked
from genae.files import FORMAT, load_state, save_state

CALM = dict(OMP_NUM_THREADS="1", GENAE_DEVICE="cpu", MPLBACKEND="agg")
BANK = toyfaces(32, 8, 1)
EIGHT = replace(train_automodulator.RECIPES["class"], phases=tuple(replace(p, batch=8) for p in train_automodulator.RECIPES["class"].phases), model=dict(widths=(4, 4), latent_dim=4))
CIPHER = replace(train_deciphering.RECIPES["class"], layers=((16, 3),), model=dict(widths=(16, 16), latent_dim=8, bottleneck_channels=8), batch=8)


def same(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- a run of one number: what the engine does, without a model

class Tally:
    def __init__(self): self.n = torch.zeros(64)
    def state_dict(self): return dict(n=self.n.clone())
    def load_state_dict(self, state): self.n = state["n"]


def tally(folder=None, **more):
    part = Tally()
    def step(t):
        part.n += torch.rand(64)
        return 1, dict(total=part.n.sum())
    torch.manual_seed(0)
    return Engine(step, dict(tally=part), folder, **more)


def go(engine, **more): return engine.run(**dict(total_images=30, note_every=5, save_every=10, quiet=True) | more)


@pytest.fixture
def run(tmp_path):
    "A run that left off after step 25: checkpoints of steps 20 and 25."
    go(tally(tmp_path, settings=dict(seed=0)), stop_at=25)
    return tmp_path


def flip(path, n=64):
    torn = bytearray(path.read_bytes())
    for k in torch.randint(len(torn), (n,)).tolist(): torn[k] ^= 1 + k % 255
    path.write_bytes(torn)


def flip_both(run): flip(run / "checkpoint.safetensors"); flip(run / "checkpoint.previous.safetensors")
def cut(run): (run / "checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes()[:99])
def empty(run): (run / "checkpoint.safetensors").write_bytes(b"")
def gone(run): (run / "checkpoint.safetensors").unlink()
def no_checkpoint(run): save_state(run / "checkpoint.safetensors", dict(model="automodulator"))
def not_finite(run):
    state = load_state(run / "checkpoint.safetensors")
    state["parts"]["tally"]["n"][3] = float("nan")
    save_state(run / "checkpoint.safetensors", state)
def stranger(run):
    state = load_state(run / "checkpoint.safetensors")
    save_state(run / "checkpoint.safetensors", state | dict(parts=dict(net={})))
def one_value(run): # as a program would write it that keeps the old checksum
    tensors = load_file(run / "checkpoint.safetensors")
    header = open_header(run / "checkpoint.safetensors")
    tensors["0"][0] += 1
    save_file(tensors, run / "checkpoint.safetensors", metadata=header)
def log_line(run): (run / "log.jsonl").write_text((run / "log.jsonl").read_text().replace('"step": 10', '"step": '))
def log_rows(run): (run / "log.jsonl").write_text("{}\n[]\n" + (run / "log.jsonl").read_text() + "\xff\x00\n" + "[" * 100_000 + "\n" + '{"step": 27, "se')
def log_bytes(run): (run / "log.jsonl").write_bytes(b"\xff\xfe\n" + (run / "log.jsonl").read_bytes())
def log_gone(run): (run / "log.jsonl").unlink()
def half_files(run): (run / "checkpoint.safetensors.1.part").write_text("half"); (run / "log.jsonl").open("a").write('{"step": 30, "images_seen": 30}\n{"st')


def open_header(path):
    from safetensors import safe_open
    with safe_open(path, "pt") as f: return f.metadata()


HARM = { # what happens to the folder: what is said, and the step it goes on from; None is a refusal
    half_files: ("", 25), gone: ("", 20), log_gone: ("", 25),
    cut: ("damaged", 20), empty: ("damaged", 20), not_finite: ("tally.n is not finite", 20), one_value: ("checksum is another", 20), no_checkpoint: ("is no checkpoint", 20),
    log_line: ("line 2 cannot be read", 25), log_rows: ("line 1 cannot be read", 25), log_bytes: ("line 1 cannot be read", 25),
    flip_both: ("Delete checkpoint.safetensors and checkpoint.previous.safetensors to begin anew", None), stranger: ("another kind of run", None),
}


@pytest.mark.parametrize("harm", HARM, ids=lambda f: f.__name__)
def test_harm(harm, run):
    said, step = HARM[harm]
    harm(run)
    engine = tally(run, settings=dict(seed=0))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        if step is None:
            with pytest.raises(ValueError, match=said) as e: engine.resume()
            assert "\n" not in str(e.value)
            locked(run).close() # a refused engine holds nothing
            return
        assert engine.resume() and engine.done == step
    assert said in " ".join(str(w.message) for w in heard) and bool(heard) == bool(said)
    log, whole = go(engine), tally()
    want = go(whole)
    assert torch.equal(engine.parts["tally"].n, whole.parts["tally"].n) # to the last bit
    assert [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] == log
    assert log == want or harm in (log_line, log_gone)
    assert not list(run.glob("*.part"))


@pytest.mark.parametrize("seed", range(10))
def test_random_bytes(seed, run):
    torch.manual_seed(seed)
    flip(run / "checkpoint.safetensors", 1 + seed)
    engine = tally(run, settings=dict(seed=0))
    with pytest.warns(UserWarning, match="damaged|not written by genae"): assert engine.resume() and engine.done == 20


def test_nothing_to_resume_begins_the_log_anew(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 5, "images_seen": 5}\n')
    engine = tally(tmp_path)
    assert not engine.resume()
    assert go(engine) == [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]


LENGTHS = [dict(total_images=0), dict(total_images=-5), dict(total_images=float("nan")), dict(total_images=float("inf")), dict(minutes=0), dict(minutes=-1), dict(minutes=float("nan"))]


@pytest.mark.parametrize("length", LENGTHS, ids=str)
def test_lengths_that_never_end(length, tmp_path):
    name, = length
    for f in (lambda: go(tally(tmp_path), **length), lambda: train_automodulator.train(BANK, EIGHT, quiet=True, **length), lambda: train_deciphering.train(BANK, CIPHER, quiet=True, **length)):
        with pytest.raises(ValueError, match=f"^{name} is .*: give a number above 0$"): f()
    assert not list(tmp_path.iterdir())


# ---- one owner

def test_a_folder_is_locked_while_it_runs(tmp_path):
    engine = tally(tmp_path)
    step, heard = engine.step, []
    def watched(t):
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()}: wait") as e: go(tally(tmp_path))
        heard.append(e.value)
        return step(t)
    engine.step = watched
    go(engine, total_images=2)
    assert len(heard) == 2
    go(tally(tmp_path), total_images=2)


RACE = """import sys
from dataclasses import replace
from genae import train_automodulator
from genae.datasets import toyfaces
r = train_automodulator.RECIPES["class"]
r = replace(r, phases=tuple(replace(p, batch=8) for p in r.phases), model=dict(widths=(4, 4), latent_dim=4))
try: train_automodulator.train(toyfaces(32, 8, 1), r, 240, seed=int(sys.argv[1]), folder=sys.argv[2], quiet=True).save(sys.argv[2] + "/model.safetensors")
except ValueError as e: sys.exit(str(e))
"""


def test_two_processes_at_once(tmp_path):
    script = tmp_path / "race.py"
    script.write_text(RACE)
    racers = [subprocess.Popen([sys.executable, script, str(seed), tmp_path / "run"], stderr=subprocess.PIPE, text=True, env=os.environ | CALM) for seed in (0, 1)]
    errors = [p.communicate(timeout=120)[1] for p in racers]
    assert sorted(p.returncode for p in racers) == [0, 1], errors
    first = [p.returncode for p in racers].index(0)
    refused = errors[1 - first]
    assert refused.count("\n") == 1 and ("in use by process" in refused or f"seed is {first} there and {1 - first} here" in refused), refused
    want = train_automodulator.train(BANK, EIGHT, 240, seed=first, quiet=True).state_dict()
    assert same(load_state(tmp_path / "run" / "model.safetensors")["weights"], want)


def test_a_killed_process_holds_nothing(tmp_path):
    read, write = os.pipe()
    if not (child := os.fork()):
        lock = locked(tmp_path)
        os.write(write, b"1")
        time.sleep(60)
    os.read(read, 1)
    with pytest.raises(ValueError, match=f"in use by process {child}"): locked(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    locked(tmp_path).close()


# ---- `train` from Python

OTHERS = {"total_images is 64 there and 72 here": dict(total_images=72), "seed is 0 there and 1 here": dict(seed=1), "the training pictures are others": dict(dataset=toyfaces(32, 8, 2)),
          "size is 8 there and 16 here": dict(dataset=toyfaces(32, 16, 1)), "recipe.lr_decay_fraction": dict(recipe=lambda r: replace(r, lr_decay_fraction=.123)), "recipe is one of its own there and class here": dict(recipe="class"),
          "minutes is None there and 1 here": dict(minutes=1), "settings": dict(blur=False)}


@pytest.mark.parametrize("book, recipe", [(train_automodulator, EIGHT), (train_deciphering, CIPHER)], ids=["automodulator", "deciphering"])
def test_train_refuses_another_run(book, recipe, tmp_path):
    run = dict(total_images=64, folder=tmp_path, quiet=True)
    first = book.train(BANK, recipe, **run).state_dict()
    assert same(first, book.train(BANK, recipe, **run).state_dict()) # the same goes on, here from its end
    for said, other in OTHERS.items():
        if book is train_deciphering and ("size" in said or "blur" in other): continue # this recipe has no other size, and its network no blur
        other = dict(other)
        dataset, r = other.pop("dataset", BANK), other.pop("recipe", recipe)
        if dataset is not BANK and dataset.size == 16: r = replace(EIGHT, model=dict(widths=(4, 4, 4), latent_dim=4))
        if r == "class": r = replace(book.RECIPES["class"]) if book is train_automodulator else recipe
        if callable(r): r = r(recipe)
        if book is train_deciphering and "class" in said: continue
        with pytest.raises(ValueError, match=said) as e: book.train(dataset, r, **run | other)
        assert "\n" not in str(e.value)


def test_train_saves_before_an_interrupt(tmp_path):
    def interrupt(): # as soon as it runs
        while not (tmp_path / "log.jsonl").exists(): time.sleep(.05)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt): train_automodulator.train(BANK, EIGHT, 10 ** 6, folder=tmp_path, quiet=True)
    assert load_state(tmp_path / "checkpoint.safetensors")["done"] > 0
    locked(tmp_path).close()


# ---- files: whole, private, and not written at all where the disk is full

def test_full_disk(run):
    "A limit on the size of files stands for the full disk."
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.name != ".lock"}
    engine, soft_hard = tally(run, settings=dict(seed=0)), resource.getrlimit(resource.RLIMIT_FSIZE)
    engine.resume()
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for size, f in ((100, engine._rewrite_log), (100, engine.save)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, soft_hard[1]))
            with pytest.raises(OSError, match="could not be written.*what was there is as it was") as e: f()
            resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
            assert str(run) in str(e.value)
        size = (run / "log.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, soft_hard[1]))
        with pytest.raises(OSError, match="log.jsonl could not be written.*the last good checkpoint is in"): go(engine)
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard); signal.signal(signal.SIGXFSZ, usual)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.name != ".lock"} == before


@pytest.mark.parametrize("mask, mode", [(0o077, 0o600), (0o022, 0o644)])
def test_files_are_as_private_as_the_umask_says(mask, mode, tmp_path):
    usual = os.umask(mask)
    try: go(tally(tmp_path / "run", settings=dict(seed=0)))
    finally: os.umask(usual)
    assert {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "run").iterdir()} == dict.fromkeys((".lock", "run.json", "log.jsonl", "checkpoint.safetensors", "checkpoint.previous.safetensors"), mode)


# ---- weights of strangers

def automodulator_file(path): Automodulator(8, 4, (4, 4)).save(path, data="a test")
def cipher_file(path): DecipheringAutoencoder(8, ((4, 1),), 8, widths=(4, 8), latent_dim=4, bottleneck_channels=4).save(path, data="a test")
FILES = dict(automodulator=(Automodulator, automodulator_file), deciphering=(DecipheringAutoencoder, cipher_file))


@pytest.fixture(scope="module", params=FILES)
def weights(request, tmp_path_factory):
    cls, write = FILES[request.param]
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    write(path)
    return cls, path, load_state(path)


def refused(cls, path):
    "Whether a file is refused with one plain line; anything but that or a model fails here."
    try: assert isinstance(cls.from_pretrained(path), cls)
    except ValueError as e:
        assert "\n" not in str(e) and str(path) in str(e) and len(str(e)) < 600 and str(e)[-1] not in ": ", str(e)
        return str(e)


def with_header(path, text):
    save_file(load_file(path), path.with_name("x.safetensors"), metadata=dict(genae=text, format=FORMAT))
    return path.with_name("x.safetensors")


TREES = { # what is done to the tree: what the line says
    "no settings": (lambda t: t.pop("settings"), "it has no settings"), "no weights": (lambda t: t.pop("weights"), "it has no weights"), "no about": (lambda t: t.pop("about"), "it has no about"),
    "settings a list": (lambda t: t.update(settings=[]), "does not fit this version"), "size a string": (lambda t: t["settings"].update(size="eight"), "does not fit"),
    "size huge": (lambda t: t["settings"].update(size=2 ** 40), "does not fit"), "size negative": (lambda t: t["settings"].update(size=-8), "does not fit"), "size none": (lambda t: t["settings"].update(size=None), "does not fit"),
    "widths of 9,000": (lambda t: t["settings"].update(widths=(9000, 9000)), "does not fit"), "unknown": (lambda t: t["settings"].update(colour="blue"), "colour"),
    "a tensor less": (lambda t: t["weights"].pop(next(iter(t["weights"]))), "Missing key"), "a tensor more": (lambda t: t["weights"].update(extra=torch.zeros(2)), "Unexpected key"),
    "weights a list": (lambda t: t.update(weights=[1]), "does not fit"), "other shape": (lambda t: t["weights"].update({next(iter(t["weights"])): torch.zeros(3, 3, 3)}), "size mismatch"),
    "a checkpoint": (lambda t: (t.clear(), t.update(parts={}, done=3)), "the checkpoint of a run"), "another kind": (lambda t: t.update(model="vae"), "does not hold a model"),
}


@pytest.mark.parametrize("case", TREES)
def test_trees(case, weights):
    import copy
    cls, path, tree = weights
    change, said = TREES[case]
    tree = copy.deepcopy(tree)
    change(tree)
    save_state(path.with_name("x.safetensors"), tree)
    assert said in (refused(cls, path.with_name("x.safetensors")) or "a model"), refused(cls, path.with_name("x.safetensors"))


@pytest.mark.parametrize("growth", ["missing", None, 3, (), (8,), ("x", 1.), (8, "x"), (3, 1.), (8, float("nan")), (8, 1., 2)], ids=str)
def test_growths(growth, tmp_path):
    automodulator_file(path := tmp_path / "w.safetensors")
    tree = load_state(path)
    tree.pop("growth") if growth == "missing" else tree.update(growth=growth)
    save_state(path, tree)
    if growth != (8,): assert refused(Automodulator, path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "null", '{"dict": 3}', '{"dict": [[1]]}', '{"tensor": "none"}', '{"tensor": []}', '{"value": {}}', '{"dict": [], "sha256": "0"}',
                                  "[" * 100_000, '{"list": [' * 100_000, '{"list": [' * 2000 + "]}" * 2000, '{"dict": [[{}, {"value": 1}]]}', '{"dict": [["model", {"value": "automodulator"}]]}', '{"x": 1, "y": 2}'], ids=lambda t: t[:20])
def test_headers(text, weights): assert refused(weights[0], with_header(weights[1], text))


def test_files_of_another_version(weights):
    "They held other names: said so, and never called damaged."
    cls, path, tree = weights
    tensors, header = load_file(path), open_header(path)
    for other in ({}, dict(format="1"), dict(format="3")):
        save_file(tensors, path.with_name("x.safetensors"), metadata=dict(genae=header["genae"]) | other)
        assert "was written by another version of genae" in refused(cls, path.with_name("x.safetensors"))


@pytest.mark.parametrize("kind", FILES)
def test_memory_is_not_taken_for_settings(kind, tmp_path):
    "Counted before it is taken: the process may grow by a tenth of what the settings ask for."
    cls, write = FILES[kind]
    write(path := tmp_path / "w.safetensors")
    tree = load_state(path)
    tree["settings"] |= dict(widths=(9000, 9000)) if kind == "automodulator" else dict(widths=(9000, 9000), layers=((9000, 1),))
    save_state(path, tree)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "far more than the file holds" in refused(cls, path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000 # kB


ODD = st.recursive(st.none() | st.booleans() | st.integers(-3, 2 ** 70) | st.floats() | st.sampled_from(["", "8", "spread", "tensor"]), lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["size", "widths", "a"]), x, max_size=2), max_leaves=4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(kind=st.sampled_from(list(FILES)), data=st.data())
def test_fuzz_settings(kind, data, tmp_path_factory):
    cls, write = FILES[kind]
    path = tmp_path_factory.getbasetemp() / f"fuzz_{kind}.safetensors"
    if not path.exists(): write(path)
    tree = load_state(path)
    where = data.draw(st.sampled_from(["settings", "tree"]))
    place = tree["settings"] if where == "settings" else tree
    place[data.draw(st.sampled_from([*place, "new"]))] = data.draw(ODD)
    save_state(aside := path.with_name("fuzzed.safetensors"), tree)
    refused(cls, aside)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=st.recursive(ODD, lambda x: st.dictionaries(st.sampled_from(["dict", "list", "tuple", "tensor", "value", "sha256"]), x | st.lists(st.tuples(st.sampled_from(["model", "weights"]), x), max_size=2), max_size=2), max_leaves=8).map(json.dumps))
def test_fuzz_headers(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzz_header.safetensors"
    if not path.exists(): automodulator_file(path)
    refused(Automodulator, with_header(path, text))


# ---- what is not an error of the user's, and yet no traceback

@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), RuntimeError("not enough memory")], ids=repr)
def test_out_of_memory(error):
    @plain_errors
    def genae_try(): raise error
    with pytest.raises(SystemExit, match="^genae_try: out of memory: "): genae_try()


def test_other_runtime_errors_keep_their_traceback():
    @plain_errors
    def genae_try(): raise RuntimeError("mat1 and mat2 shapes")
    with pytest.raises(RuntimeError): genae_try()


@pytest.mark.parametrize("after, number", [(.15, signal.SIGINT), (.5, signal.SIGINT), (1.5, signal.SIGINT), (1., signal.SIGHUP)])
def test_signals_in_the_first_second(after, number, tmp_path):
    command = [Path(sys.executable).with_name("genae_train"), "--size", "8", "--out", tmp_path / "run", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | CALM)
    time.sleep(after)
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode in (-number, 128 + number) and "Traceback" not in errors, errors


def test_written_through_before_the_rename(tmp_path, monkeypatch):
    "What was written is on the disk before it takes the old file's name, and the name is on the disk before anybody is told."
    did, flush, rename = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (did.append("folder" if os.path.isdir(f"/dev/fd/{number}") else "file"), flush(number))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (did.append("rename"), rename(a, b))[1])
    save_state(tmp_path / "state.safetensors", dict(x=torch.zeros(3)))
    assert did == ["file", "rename", "folder"]
