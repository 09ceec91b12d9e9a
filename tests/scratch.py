"Tiny books, written to be broken."
import shutil
from itertools import count
from pathlib import Path

import nbformat
from house import ROOT


IDS = count()


def notebook(*cells):
    "A notebook of code cells, or of markdown where a text begins with 'md:'."
    nb = nbformat.v4.new_notebook(metadata=dict(kernelspec=dict(display_name="python3", language="python", name="python3")))
    for text in cells:
        nb.cells.append(nbformat.v4.new_markdown_cell(text[3:]) if text.startswith("md:") else nbformat.v4.new_code_cell(text))
        nb.cells[-1].id = f"cell{next(IDS)}"
    return nb


def scratch_book(root, **lessons):
    "A repository with settings and these notebooks: name = one cell, or a list of cells."
    root = Path(root)
    (root / "nbs").mkdir(parents=True)
    (root / "genae").mkdir()
    (root / "genae" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    for name in ("settings.ini", "setup.py", "pyproject.toml"): shutil.copy(ROOT / name, root)
    for name, cells in lessons.items():
        nbformat.write(notebook(*([cells] if isinstance(cells, str) else cells)), root / "nbs" / f"{name}.ipynb")
    return root
