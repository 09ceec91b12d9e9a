"Each lesson of parts 1 and 2 begins with the whole, and lights a part that the drawing has."
import ast

import nbformat
import pytest
from house import Notebook, call, notebooks, tree
from scratch import notebook

from genae.diagrams import AUTOMODULATOR, AUTOMODULATOR_PARTS, CIPHER, CIPHER_PARTS, automodulator_diagram, cipher_diagram

PARTS = dict(automodulator_diagram=AUTOMODULATOR_PARTS, cipher_diagram=CIPHER_PARTS)
OWN = "10_diagrams" # the lesson that draws them


def wrong(nb):
    "What is wrong with the drawings of a lesson."
    calls = [(k, n) for k, c in enumerate(nb.cells) if c.cell_type == "code" for n in ast.walk(tree(c)) if call(n) in PARTS]
    for _, n in calls:
        for lit in [*n.args[:1], *(a.value for a in n.keywords if a.arg == "lit")]:
            if ast.literal_eval(lit) not in PARTS[call(n)]: yield f"{ast.unparse(n)}: no such part"
    if nb.number in range(10, 30) and not any(k < 8 for k, _ in calls): yield "no drawing among the first eight cells"


def test_lessons():
    found = [f"{nb.name}: {w}" for nb in notebooks() if nb.name != OWN for w in wrong(nb)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name, cell, complaints", [
    ("11_x", 'automodulator_diagram("adain")', 0), ("11_x", 'automodulator_diagram(lit="adain", sharp=1)', 0), ("20_x", "cipher_diagram()", 0),
    ("31_x", "1", 0), ("11_x", "1", 1), ("11_x", 'automodulator_diagram("adam")', 1), ("11_x", 'automodulator_diagram(lit="adam")', 1),
    ("20_x", 'cipher_diagram("adain")', 1)])
def test_a_wrong_drawing_is_seen(name, cell, complaints, tmp_path):
    nbformat.write(notebook("md:# A", cell), tmp_path / f"{name}.ipynb")
    assert len(list(wrong(Notebook(tmp_path / f"{name}.ipynb")))) == complaints


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_every_part_is_lit_by_a_lesson(parts):
    said = {n.value for nb in notebooks() if nb.name != OWN for c in nb.code for n in ast.walk(tree(c)) if isinstance(n, ast.Constant)}
    assert set(parts) - {"patterns"} <= said # lesson 20 shows all of it


@pytest.mark.parametrize("items, parts", [(AUTOMODULATOR, AUTOMODULATOR_PARTS), (CIPHER, CIPHER_PARTS)], ids=PARTS)
def test_what_is_lit_is_there(items, parts): assert set().union(*parts.values()) <= {i.name for i in items}


@pytest.mark.parametrize("items", [AUTOMODULATOR, CIPHER], ids=PARTS)
def test_arrows_end_at_things(items):
    "The arrow of a comparison leads from the edge of one shape to the edge of another, straight above or below."
    shapes = {i.at[:2]: i for i in items if i.kind in ("picture", "circle", "square")}
    compared = [i for i in items if i.head == "<->"]
    assert compared
    for arrow in compared:
        for x, y, dx, dy in arrow.at:
            shape = shapes[x, y]
            assert dx == 0 and 0 < abs(dy) - shape.size[1] / 2 < 6, (arrow.name, shape.name)


@pytest.mark.parametrize("draw", [automodulator_diagram, cipher_diagram])
def test_the_same_drawing_twice(draw):
    with pytest.raises(ValueError, match="choose one of"): draw("nothing")
    part = next(iter(PARTS[draw.__name__]))
    (a, shown), (b, _) = draw(part)._repr_png_(), draw(part)._repr_png_()
    assert a == b and len(a) < 16_000 and shown["width"] == 600
