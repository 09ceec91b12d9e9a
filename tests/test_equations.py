"Every labelled equation of the book was computed by two roads in the run, and the losses by three. The page of all equations says so, and where."
import shutil
import sys

import nbformat
import pytest
from house import ROOT, equations, modules, notebooks, unproved
from scratch import notebook, scratch_book

sys.path.insert(0, str(ROOT / "docs"))
import equations as listed

LABELS = [label for nb in notebooks() for label, _ in equations(nb)]


def line(label, how="brute-loop"): return dict(label=label, how=how, notebook="?", error=0., tol=1.)


def test_the_book_has_equations(): assert len(LABELS) >= 2


def test_every_equation_is_checked(book):
    failed = [name for name, (passed, _, _) in book.all().items() if not passed]
    assert not failed, f"these lessons did not pass, so their checks are incomplete: {', '.join(failed)}"
    assert not (missing := list(unproved(LABELS, book.lines("GENAE_LEDGER")))), "\n".join(missing)


def test_measured(book, report):
    ledger = book.lines("GENAE_LEDGER")
    worst = max(ledger, key=lambda l: l["error"] / l["tol"] if l["tol"] else 0)
    report(f"ledger: {len(set(LABELS))} equations, {len(ledger)} checks, {len({l['how'] for l in ledger})} kinds of second road, "
           f"largest error {worst['error'] / worst['tol']:.2f} of its tolerance ({worst['label']}, {worst['how']})")


@pytest.mark.parametrize("labels, ledger, complaint", [
    (["eq-a"], [line("eq-a")], ""),
    (["eq-a"], [], "never checked"),
    (["eq-a"], [line("eq-a"), line("eq-b")], "not defined"),
    (["eq-a"], [line("eq-a", "invariance"), line("eq-a", "invariance")], "by invariance only"),
    (["eq-a"], [line("eq-a", "invariance"), line("eq-a")], ""),
    (["eq-kl"], [line("eq-kl"), line("eq-kl")], "is a loss"),
    (["eq-kl"], [line("eq-kl"), line("eq-kl", "autograd")], ""),
    (["eq-l-phi"], [line("eq-l-phi")], "is a loss"),
    (["eq-adain"], [line("eq-adain")], "is a loss")])
def test_what_is_missing_is_seen(labels, ledger, complaint):
    found = list(unproved(labels, ledger))
    assert len(found) == bool(complaint) and complaint in "".join(found)


# ---- the page of all equations

@pytest.fixture(scope="module")
def rows(): return listed.read(ROOT)


def test_every_equation_has_a_row(rows):
    assert [(r["label"], r["tag"], r["lesson"]) for r in rows] == [(label, tag, nb.name) for nb in notebooks() for label, tag in equations(nb)]
    assert all(r["checks"] >= len(r["roads"]) >= 1 and r["tex"] and r["heading"] and r["title"].startswith(r["lesson"][:2]) for r in rows)


def test_the_page_says_what_the_run_did(rows, book):
    "The stored recaps are not older than the lessons: as many checks of each equation, by the same roads."
    ledger = book.lines("GENAE_LEDGER")
    for r in rows:
        if r["lesson"] == "00_core": continue # which sends one of its lines to a ledger of its own, to show it
        mine = [line["how"] for line in ledger if (line["notebook"], line["label"]) == (r["lesson"], r["label"])] # the museum checks some again
        assert (len(mine), sorted(set(mine))) == (r["checks"], r["roads"]), f"run {r['lesson']} and save it: {r['label']}"


def test_numbers_that_the_package_cites_exist(rows):
    tags = {r["tag"] for r in rows}
    for path in modules(ROOT):
        assert not (strangers := listed.cited(path.read_text(), bare=False) - tags), f"{path.stem} cites {strangers}"
    found = {path for r in rows for path in r["code"]}
    assert {"genae.kl.kl_to_normal", "genae.robust.AdaptiveLoss.grow", "genae.metrics.Moments.merge", "genae.adain.AdaIN.style"} <= found


def test_equations_of_the_papers_are_found(rows):
    "All of both papers, and no number that they do not have."
    said = {p for r in rows for p in r["paper"]}
    assert {n for paper, n in said if not paper} == set(range(1, 12)) and {n for paper, n in said if paper == "Patterns"} == {1, 2}


@pytest.mark.parametrize("text, ours, theirs", [
    ("Mean (paper, eqs. 1, 2; eq. 4.4).", ["4.4"], [("", 1), ("", 2)]),
    ("Tidy (eqs. 4.15, 24.8 and 24.9; ours).", ["24.8", "24.9", "4.15"], []),
    ("Loss (Barron 2019, eq. 8; eqs. 15.1 to 15.3).", ["15.1", "15.2", "15.3"], [("Barron", 8)]),
    ("> **Patterns, eq. 2.** With a shift.", [], [("Patterns", 2)]),
    ("The losses of equations 1 and 4 to 6 of the paper", [], [("", 1), ("", 4), ("", 5), ("", 6)]),
    ("Equation 10.1 keeps the power; see (2.9), at 3.5 or (0.5, 1).", ["10.1", "2.9"], []),
    ("Section 3.2 has none, nor version 0.1.", [], [])])
def test_numbers_are_read(text, ours, theirs):
    assert sorted(listed.cited(text)) == ours and sorted(listed.printed(text)) == theirs


@pytest.fixture
def little(tmp_path):
    "A book of one lesson: an equation that a function cites, and one that is only tried on it."
    root = scratch_book(tmp_path / "book", **{"03_x": [
        "#| default_exp x", "md:# 03 X\n> Y.", "from genae.x import one, two", 'md:## First\n\n> **Paper, eq. 7.** So.\n\n<a id="eq-kl-one"></a>\n$$ a \\tag{3.1} $$',
        'check("eq-kl-one", one(), 1, how="scipy")', 'md:## Second\n\n<a id="eq-b"></a>\n$$ b \\tag{3.2} $$', 'two = 2\ncheck("eq-b", one(), two, how="scipy")',
        "md:## Exercises\n\n1. ★ Do (3.2).\n2. ★ Do [that](#eq-b).\n3. ★ None.", "recap()"]})
    (root / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "house.py", root / "tests")
    (root / "genae" / "x.py").write_text('def one():\n    "One (eq. 3.1)."\n\ndef two():\n    "Two."\n')
    (root / "genae" / "_modidx.py").write_text("d = dict(syms={'genae.x': {'genae.x.one': (), 'genae.x.two': ()}})")
    nb = nbformat.read(root / "nbs" / "03_x.ipynb", 4)
    nb.cells[-1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "eq-kl-one  2  autograd, scipy  1.0e-01\neq-b  1  scipy  0.0e+00"})]
    nbformat.write(nb, root / "nbs" / "03_x.ipynb")
    return root


def test_rows_of_a_little_book(little):
    one, two = listed.read(little)
    assert (one["name"], one["heading"], one["paper"], one["code"], one["tried"]) == ("KL one", "First", [("", 7)], ["genae.x.one"], [])
    assert (one["checks"], one["roads"], one["worst"], one["exercises"]) == (2, ["autograd", "scipy"], .1, [])
    assert (two["paper"], two["code"], two["tried"]) == ([], [], ["genae.x.one"]) # the lesson's own `two` is not the package's
    assert two["exercises"] == [("03_x", "1"), ("03_x", "2")]
    assert [*listed.table([one])][1:] == ["| [3.1](03_x.ipynb#eq-kl-one) **KL one**, *First* | 7 | `one` | 2: autograd, scipy | 1e-01 |"]


def test_an_equation_without_a_stored_check_is_refused(little):
    nb = nbformat.read(little / "nbs" / "03_x.ipynb", 4)
    nb.cells[-1].outputs[0].data["text/plain"] = "eq-kl-one  2  autograd, scipy  1.0e-01"
    nbformat.write(nb, little / "nbs" / "03_x.ipynb")
    with pytest.raises(ValueError, match="03_x has stored no check of eq-b"): listed.read(little)


def test_labels_are_read(tmp_path):
    root = scratch_book(tmp_path / "book", **{"03_x": ['md:Text.\n\n<a id="eq-a"></a>\n$$ a = b \\tag{3.1} $$\n\nMore, with $c$.', "md:`$$` is code."]})
    assert equations(notebooks(root)[0]) == [("eq-a", "3.1")]
