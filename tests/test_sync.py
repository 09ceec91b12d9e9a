"The package is what the notebooks export, and the notebooks are clean: nbdev_export and nbdev_clean change nothing."
import json
import shutil

import pytest
from conftest import tool
from house import ROOT
from scratch import scratch_book


def files(root):
    "What nbdev writes: the package's Python files and the notebooks."
    return {p.relative_to(root).as_posix(): p.read_bytes() for kind in ("genae/**/*.py", "nbs/**/*.ipynb") for p in root.glob(kind)
            if not any(part.startswith(".") for part in p.relative_to(root).parts)}


def out_of_sync(root, scratch):
    "Export and clean a copy that holds no exported module, and compare byte for byte."
    keep = shutil.ignore_patterns(".*", "__pycache__")
    for name in ("nbs", "genae"): shutil.copytree(root / name, scratch / name, ignore=keep)
    for name in ("settings.ini", "setup.py", "pyproject.toml"): shutil.copy(root / name, scratch)
    for p in (scratch / "genae").rglob("*.py"):
        if p.name != "__init__.py": p.unlink()
    for command in ("nbdev_export", "nbdev_clean"):
        r = tool(command, cwd=scratch)
        if r.returncode: yield f"{command} failed: {r.stderr}"
    have, want = files(root), files(scratch)
    for name in sorted(have | want):
        if name not in have: yield f"{name} is missing: run nbdev_export"
        elif name not in want: yield f"{name} comes from no notebook: delete it and run nbdev_export"
        elif have[name] != want[name]: yield f"{name} is not what nbdev_export and nbdev_clean write"


def test_in_sync(tmp_path):
    assert not (found := list(out_of_sync(ROOT, tmp_path))), "\n".join(found)


# ---- the same function on a tiny book that is broken in each way

def exporting(name): return [f"#| default_exp {name}", f'#| export\ndef {name}():\n    "One."\n    return 1', f"assert {name}() == 1"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    root = scratch_book(tmp_path_factory.mktemp("tiny") / "book", **{"00_one": exporting("one"), "01_two": exporting("two")})
    for command in ("nbdev_export", "nbdev_clean"): tool(command, cwd=root).check_returncode()
    return root


def nothing(root): pass
def edit_module(root): (root / "genae/one.py").write_text((root / "genae/one.py").read_text().replace("return 1", "return 2"))
def edit_index(root): (root / "genae/_modidx.py").write_text((root / "genae/_modidx.py").read_text().replace("one.html", "two.html"))
def edit_notebook(root): (root / "nbs/00_one.ipynb").write_text((root / "nbs/00_one.ipynb").read_text().replace("return 1", "return 2"))
def delete_notebook(root): (root / "nbs/01_two.ipynb").unlink()
def rename_notebook(root): (root / "nbs/01_two.ipynb").rename(root / "nbs/02_two.ipynb")
def rename_module(root): (root / "nbs/01_two.ipynb").write_text((root / "nbs/01_two.ipynb").read_text().replace("default_exp two", "default_exp deux"))
def new_notebook(root): (root / "nbs/02_three.ipynb").write_text((root / "nbs/01_two.ipynb").read_text().replace("two", "three"))
def stray_module(root): (root / "genae/stray.py").write_text("x = 1\n")


def dirty_notebook(root):
    nb = json.loads((root / "nbs/00_one.ipynb").read_text())
    nb["metadata"]["language_info"], nb["cells"][1]["execution_count"] = dict(version="3"), 7
    (root / "nbs/00_one.ipynb").write_text(json.dumps(nb, indent=1))


@pytest.mark.parametrize("change, complaints", [
    (nothing, []),
    (edit_module, ["one.py is not"]),
    (edit_index, ["_modidx.py is not"]),
    (edit_notebook, ["one.py is not"]),
    (delete_notebook, ["_modidx.py is not", "two.py comes from no notebook"]),
    (rename_notebook, ["two.py is not"]),
    (rename_module, ["_modidx.py is not", "deux.py is missing", "two.py comes from no notebook"]),
    (new_notebook, ["_modidx.py is not", "three.py is missing"]),
    (stray_module, ["stray.py comes from no notebook"]),
    (dirty_notebook, ["00_one.ipynb is not"])], ids=lambda x: getattr(x, "__name__", ""))
def test_a_change_is_seen(tiny, tmp_path, change, complaints):
    root = tmp_path / "book"
    shutil.copytree(tiny, root)
    change(root)
    (tmp_path / "scratch").mkdir()
    found = list(out_of_sync(root, tmp_path / "scratch"))
    assert len(found) == len(complaints), found
    assert all(c in f for c, f in zip(complaints, found)), found
