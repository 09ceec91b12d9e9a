"What a new user tries first: names from the package, the shells, few pictures, many pictures, one mixture."
import os
import re
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from house import ROOT, modules
from PIL import Image

import genae
from genae import cli
from genae.core import Recap, rng, show
from genae.datasets import toyfaces
from genae.engine import Engine
from genae.faces import draw_faces, random_factors
from genae.train_automodulator import RECIPES, train
from genae.reports import SHOWN, labelled
from test_cli import COMMANDS

ENV = os.environ | dict(GENAE_DEVICE="cpu", OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))


def command(name, *options, cwd):
    "A command of this process, as a shell would call it: status, and what it said."
    with chdir(cwd), redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as errors, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, options)])
        patch.setenv("GENAE_DEVICE", "cpu")
        try: cli.from_shell(getattr(cli, name).__wrapped__)
        except SystemExit as e: return (e.code or 0, out.getvalue(), errors.getvalue()) if not isinstance(e.code, str) else (1, out.getvalue(), errors.getvalue() + e.code + "\n")
    return 0, out.getvalue(), errors.getvalue()


def python(*arguments, cwd): return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=ENV)


def test_the_package_offers_what_it_says(tmp_path):
    r = python("-c", "import sys, genae; print('torch' in sys.modules); from genae import *; print(mix.__module__, Automodulator.__module__, __version__)", cwd=tmp_path)
    assert r.stdout.split() == ["False", "genae.mixing", "genae.automodulator", genae.__version__], r.stderr
    assert all(getattr(genae, name).__module__ == f"genae.{module}" for name, module in genae._OFFERED.items()) and set(genae._OFFERED) <= set(dir(genae))
    assert not set(genae._OFFERED) & {p.stem for p in modules(ROOT)} # a name that is a module would be the one or the other
    with pytest.raises(AttributeError, match="offers Automodulator"): genae.Automodulater


@pytest.mark.parametrize("arguments, status, says", [
    (("-c", "from genae.cli import genae_sample; genae_sample()", "--n", 0), 1, "genae_sample: --n is 0"),
    (("-m", "genae.cli", "genae_sample", "--n", 0), 1, "genae_sample: --n is 0")])
def test_other_shells_do_not_ignore_arguments(arguments, status, says, tmp_path):
    r = python(*arguments, cwd=tmp_path)
    assert r.returncode == status and r.stderr.count("\n") == 1 and says in r.stderr and not list(tmp_path.iterdir()), r


def test_a_shell_that_names_no_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["genae/cli.py", "--n", "0"])
    with pytest.raises(SystemExit, match="give one of genae_train"): cli.main()


def test_a_call_from_python_is_a_call(tmp_path):
    "Given arguments, or from within a function, a command does not look at the shell's."
    (tmp_path / "own.py").write_text("from genae.cli import genae_sample\ndef mine(): genae_sample()\nmine()\ngenae_sample(n=1, out='one.png')\n")
    r = python("own.py", "--secret", cwd=tmp_path)
    assert r.returncode == 0 and {p.name for p in tmp_path.glob("*.png")} == {"samples.png", "one.png"}, r.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_version(name, tmp_path):
    assert command(name, "--version", cwd=tmp_path) == (0, f"{name} of genae {genae.__version__}\n", "")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    (place / "many").mkdir()
    for i, x in enumerate(draw_faces(random_factors(70, rng(3)), size=32)): show(x[None], height=1).save(place / "many" / f"{i:02d}.png")
    return place


def test_pictures_without_flags(place):
    a, b = "many/00.png", "many/01.png"
    for options in ((a, b), ("--coarse", a, "--middle", b)):
        r = command("genae_mix", *options, "--out", f"{len(options)}.png", cwd=place)
        assert r[0] == 0, r[2]
    assert (place / "2.png").read_bytes() == (place / "4.png").read_bytes()
    r = command("genae_mix", a, "--fine", b, cwd=place)
    assert r[0] == 1 and "give either" in r[2]
    im = Image.open(place / "2.png")
    assert im.width > 1000 and im.height > 256 # to be looked at: three sources and the mixture


def test_a_label_is_above_its_picture():
    x = draw_faces(random_factors(2, rng(3)), size=16)
    row = np.array(labelled(x, ["left", "right"], 64))
    for i in range(2): assert (row[32:, i * 72:i * 72 + 64] == np.array(show(x[i:i + 1], height=1).resize((64, 64), Image.Resampling.NEAREST))).all()
    assert (row[:32, :64] < 255).any() and (row[:32, 72:] < 255).any()


def test_many_pictures_are_no_tower(place):
    r = command("genae_reconstruct", "many", "--out", "pairs.png", cwd=place)
    assert r[0] == 0 and f"the first {SHOWN} of 140" in r[1] and "error of 70 pictures" in r[1], r[2]
    assert Image.open(place / "pairs.png").height < 1200
    r = command("genae_reconstruct", "many", "--out", "all/", cwd=place)
    assert r[0] == 0 and "first" not in r[1] and len(list((place / "all").iterdir())) == 70, r[2]


@pytest.mark.parametrize("recipe, least", dict(sharp=64, **{"class": 43}).items())
@pytest.mark.parametrize("name", ["genae_train", "genae_demo"])
def test_too_few_pictures_are_refused_at_the_door(name, recipe, least, tmp_path):
    r = command(name, "--size", 16, "--recipe", recipe, "--total_images", least - 1, "--out", "run", cwd=tmp_path)
    assert r[0] == 1 and r[2].count("\n") == 1 and f"{least} are the least" in r[2] and not (tmp_path / "run").exists(), r


def test_a_run_ends_at_the_size_of_its_pictures():
    "Also in Python, and where the clock ends it: what reads the pictures of the data set is what was asked for."
    dataset = toyfaces(40, size=16)
    small = dict(widths=(8, 8, 8), latent_dim=4)
    with pytest.warns(UserWarning, match="ended at 8 of 16 pixels"): model = train(dataset, replace(RECIPES["class"], model={}), total_images=10, quiet=True, **small)
    assert model.size == 16 and model.reconstruct(dataset.images[:2]).shape == (2, 3, 16, 16)


def test_the_bar_promises_nothing_that_the_clock_decides(capsys):
    Engine(lambda t: (5, {}), {}).run(100, minutes=10)
    said = capsys.readouterr().err
    assert "100%" in said and not re.search(r"\d/\d+", said.splitlines()[-1].split("\r")[-1].partition("[")[0])


def test_an_empty_recap_says_so():
    for text in (repr(Recap([])), Recap([])._repr_markdown_()): assert "No equation" in text and "|" not in text


def test_the_book_opens_at_the_root_of_the_repository():
    "demo/ and results/ are within reach."
    options = re.search(r"@jupyter lab (.*?) \$\(if", (ROOT / "Makefile").read_text())[1].replace("$(CURDIR)", str(ROOT)).replace('"', "").split()
    from jupyterlab.labapp import LabApp
    app = LabApp.initialize_server([*options, "--no-browser", "--port=0", "--ServerApp.ip=127.0.0.1", "--ServerApp.allow_root=True"])
    try: assert (app.root_dir, os.path.realpath(app.file_to_run)) == (str(ROOT), str(ROOT / "nbs" / "index.ipynb"))
    finally: type(app).clear_instance()
