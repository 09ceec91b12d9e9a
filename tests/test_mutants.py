"The tool behind `make mutants`: what it makes of a toy, what it says of a small book, what it remembers."
import ast
import json
import os
import subprocess
import sys

import mutants as M
import pytest
from house import ROOT, notebooks
from scratch import scratch_book

TOY = '''
@dataclass
class Recipe:
    "What stays open, at 1 - 1."
    floor: float = .5 # + 1

@torch.no_grad()
def f(
    x: Literal[1], # a == b
    scale: float = 1.,
    *,
    deep=False,
):
    "Not 1 + 1."
    if x < 0: raise Small(x - 1, "least")
    assert x == x + 1, "never"
    with torch.no_grad(): y = g(x, scale, rest=2).detach()
    y += recipe.floor
    optimiser.step()
    plt.plot(x + 1)
    text = f"{x + 1} of"
    z = h(y) if y > 0 and deep else -y
    return z * scale
'''
EXPECTED = {
    "sign": [("y += recipe.floor", "y -= recipe.floor"), ("z = h(y) if y > 0 and deep else -y", "z = h(y) if y > 0 and deep else y")],
    "dropped term": [("z = h(y) if y > 0 and deep else -y", "z = h(y) if y > 0 else -y"), ("return z * scale", "return z"), ("return z * scale", "return scale")],
    "dropped argument": [("with torch.no_grad(): y = g(x, scale, rest=2).detach()", "with torch.no_grad(): y = g(x, rest=2).detach()"),
                         ("with torch.no_grad(): y = g(x, scale, rest=2).detach()", "with torch.no_grad(): y = g(x, scale).detach()")],
    "swapped arguments": [("with torch.no_grad(): y = g(x, scale, rest=2).detach()", "with torch.no_grad(): y = g(scale, x, rest=2).detach()")],
    "off by one": [("if x < 0: raise Small(x - 1, \"least\")", "if x < 1: raise Small(x - 1, \"least\")"),
                   ("with torch.no_grad(): y = g(x, scale, rest=2).detach()", "with torch.no_grad(): y = g(x, scale, rest=3).detach()"),
                   ("z = h(y) if y > 0 and deep else -y", "z = h(y) if y > 1 and deep else -y")],
    "comparison": [("if x < 0: raise Small(x - 1, \"least\")", "if x <= 0: raise Small(x - 1, \"least\")"),
                   ("z = h(y) if y > 0 and deep else -y", "z = h(y) if y >= 0 and deep else -y")],
    "ignored option": [("if x < 0: raise Small(x - 1, \"least\")", f"{name} / if x < 0: raise Small(x - 1, \"least\")")
                       for name in ("scale = 1.", "deep = False")] + [("y += recipe.floor", "y += 0.5")],
    "forgotten detach": [("@torch.no_grad()", ""), ("with torch.no_grad(): y = g(x, scale, rest=2).detach()", "if True: y = g(x, scale, rest=2).detach()"),
                         ("with torch.no_grad(): y = g(x, scale, rest=2).detach()", "with torch.no_grad(): y = g(x, scale, rest=2)")],
    "condition negated": [("z = h(y) if y > 0 and deep else -y", "z = h(y) if (not (y > 0 and deep)) else -y")],
    "door removed": [("if x < 0: raise Small(x - 1, \"least\")", "if False: raise Small(x - 1, \"least\")")],
    "boolean flipped": [("deep=False,", "deep=True,")],
    "statement removed": [("y += recipe.floor", "pass"), ("optimiser.step()", "pass")],
    "result not returned": [("return z * scale", "return None")],
}


def test_toy(): # every kind, and nothing of docstrings, annotations, messages, assertions, comments and plots
    found = {}
    for m in M.mutate(TOY, fields=M.fields_of([TOY])): found.setdefault(m["kind"], []).append((m["before"], m["after"]))
    assert {k: sorted(v) for k, v in found.items()} == {k: sorted(v) for k, v in EXPECTED.items()}


def test_letters_of_many_bytes(): # ast counts bytes
    assert {m["after"] for m in M.mutate("a = 'é' if b == 'ü' else c - d")} >= {"a = 'é' if b != 'ü' else c - d", "a = 'é' if b == 'ü' else c + d"}


@pytest.mark.parametrize("module", ["encoder", "engine"])
def test_each_applies(module): # in the cell and in the module, each a program of its own
    nb = next(nb for nb in notebooks() if nb.module == module)
    text, made = (ROOT / "genae" / f"{module}.py").read_text(), list(M.mutants_of(nb))
    assert len({m["id"] for m in made}) == len(made) > 50
    programs = {ast.dump(ast.parse(M.in_module(text, m))) for m in made}
    assert len(programs) == len(made) and ast.dump(ast.parse(text)) not in programs


def test_sample(): # even over kinds, the same again, and a smaller one begins a larger one
    nb = next(nb for nb in notebooks() if nb.module == "engine")
    made = list(M.mutants_of(nb))
    few, more = M.sample(made, 13), M.sample(made, 40)
    assert few == M.sample(made[::-1], 13) == more[:13] != M.sample(made, 13, seed=1)
    assert len({m["kind"] for m in few}) == len({m["kind"] for m in made})


def test_reasons_are_kept(tmp_path): # and what a reason calls equivalent is not counted
    path, entry = tmp_path / "mutants.json", lambda *alive: dict(lesson="a b", crashed="c", tests="d", survivors=[dict(id=i, cell="1", before=i, after="", tested=True, reason="") for i in alive])
    M.write(path, "before", "toy", entry("e", "f"))
    data = M.read(path)
    assert data["before"]["toy"]["score"] == dict(mutants=6, equivalent=0, by_lesson=50., by_both=66.7, silent=5, silent_by_lesson=40., silent_by_both=60.)
    data["before"]["toy"]["survivors"][0]["reason"] = "equivalent: nobody can tell"
    path.write_text(json.dumps(data))
    M.write(path, "before", "toy", entry("f"))
    M.write(path, "after", "toy", entry("e", "f"))
    after = M.read(path)["after"]["toy"]
    assert [s["reason"] for s in after["survivors"]] == ["equivalent: nobody can tell", ""]
    assert (after["score"]["mutants"], after["score"]["equivalent"], after["score"]["by_both"]) == (5, 1, 80.)


LESSON = ["#| default_exp toy", "#| export\nimport math", "from pathlib import Path\nimport tempfile", "place = Path(tempfile.mkdtemp())",
          '#| export\ndef area(r, folder=None, loud=False):\n    if folder: (folder / "seen").touch()\n    return math.pi * r ** 2 if not loud else "!"',
          'assert not (place / "seen").exists()\nassert abs(area(2, place) - 12.566) < .01', "#| export\nLIMIT = 3", "assert 'LIMIT = 3' in Path('../genae/toy.py').read_text()", "#| slow\nassert area(1, loud=True) == '!'", "#| hide\nimport nbdev; nbdev.nbdev_export()"]
SCRIPT = """
import json, sys, tempfile
import matplotlib.pyplot, pytest # once, and not in every process
from pathlib import Path
import mutants as M
root = Path(sys.argv[1])
nb = M.notebooks(root)[0]
with tempfile.TemporaryDirectory() as folder:
    copy = M.Copy(root, folder)
    first = M.judge(nb, copy, root / "mutants.json", root=root)
    M.forked = M.lesson = M.tests = None
    assert M.judge(nb, copy, root / "mutants.json", root=root)["survivors"] == first["survivors"], "it has begun anew"
    assert M.in_module((Path(folder) / "tree/genae/toy.py").read_text(), dict(cell=nb.code[4].id, source=nb.code[4].source)) == (root / "genae/toy.py").read_text(), "a mutant was left"
print(json.dumps(first))
"""


def test_small_book(tmp_path): # a lesson that notices, a test that notices, and what neither does; each mutant finds the folders that the lesson made as they were
    root = scratch_book(tmp_path / "book", **{"00_toy": LESSON})
    nb = notebooks(root)[0]
    (root / "genae" / "toy.py").write_text("".join(f"# %% ../nbs/00_toy.ipynb #{c.id}\n{M.code(c.source)}\n\n" for c in nb.code if "#| export" in c.source).rstrip() + "\n")
    (root / "tests").mkdir()
    (root / "tests" / "test_toy.py").write_text("from genae.toy import area\n\ndef test_loud(): assert area(1, loud=True) == '!'\n")
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    r = subprocess.run([sys.executable, "-c", SCRIPT, root], capture_output=True, text=True, timeout=300, env=os.environ | dict(PYTHONPATH=str(ROOT / "tests"), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"))
    assert r.returncode == 0, r.stderr
    said, made = json.loads(r.stdout), {m["id"]: m["after"] for m in M.mutants_of(nb, root)}
    killed = {k: {made[i] for i in said[k].split()} for k in M.KILLED}
    assert 'return math.pi * r ** 3 if not loud else "!"' in killed["lesson"] and "LIMIT = 4" in killed["lesson"] and "return None" in killed["crashed"]
    assert killed["tests"] == {'loud = False / if folder: (folder / "seen").touch()', 'if (not folder): (folder / "seen").touch()'}
    assert {made[s["id"]] for s in said["survivors"]} == {'folder = None / if folder: (folder / "seen").touch()', 'if folder: pass', 'if folder: (folder).touch()'}
    assert sum(map(len, killed.values())) + len(said["survivors"]) == len(made)
    assert {p: p.read_bytes() for p in before} == before
