"README.md and its pictures are what docs/make_readme.py makes of the front page."
import base64
import os
import re
import subprocess
import sys

import nbformat
import pytest
from house import ROOT
from PIL import Image
from scratch import notebook

sys.path.insert(0, str(ROOT / "docs"))
from make_readme import PICTURES, convert

INDEX = ROOT / "nbs" / "index.ipynb"


@pytest.mark.skipif(not INDEX.exists(), reason="there is no front page, nbs/index.ipynb")
def test_readme_is_the_front_page():
    text, pictures = convert(INDEX)
    assert (ROOT / "README.md").read_text() == text, "run python docs/make_readme.py"
    assert {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in ROOT.glob(PICTURES + "_*")} == pictures, "run python docs/make_readme.py"


def test_conversion(tmp_path):
    nb = notebook("#| default_exp x", "#| hide\nimport os", "md:# Title\n\nSee [01](01_faces.ipynb), [below](#there) and [a page](https://a.org).",
                  "#| hide_input\nx[0](y)", "1 + 1", "#| hide\nimport nbdev; nbdev.nbdev_export()")
    png = base64.b64encode(b"a picture").decode()
    nb.cells[3].outputs = [nbformat.v4.new_output("execute_result", {"image/png": png, "image/jpeg": png, "text/plain": "<PIL>"})]
    nb.cells[4].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2", "text/html": "<b>2</b>"})]
    (tmp_path / "nbs").mkdir()
    nbformat.write(nb, tmp_path / "nbs" / "index.ipynb")
    text, pictures = convert(tmp_path / "nbs" / "index.ipynb")
    name, = pictures
    assert pictures[name] == b"a picture" and name.startswith(PICTURES)
    assert text == ("# Title\n\nSee [01](nbs/01_faces.ipynb), [below](#there) and [a page](https://a.org).\n\n"
                    f"![what the cell above shows]({name})\n\n```python\n1 + 1\n```\n\n    2\n")


def test_the_script_of_the_readme_is_a_script(tmp_path):
    script = re.search(r"^## In a script\n.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S | re.M)[1]
    (tmp_path / "six.py").write_text(script)
    r = subprocess.run([sys.executable, "six.py"], cwd=tmp_path, capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(ROOT)))
    assert r.returncode == 0, r.stderr
    with Image.open(tmp_path / "faces.png") as im: assert min(im.size) > 200
