"Every labelled equation of the book was computed by two roads in the run, and the losses by three."
import pytest
from house import equations, notebooks, unproved
from scratch import notebook, scratch_book

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


def test_labels_are_read(tmp_path):
    root = scratch_book(tmp_path / "book", **{"03_x": ['md:Text.\n\n<a id="eq-a"></a>\n$$ a = b \\tag{3.1} $$\n\nMore, with $c$.', "md:`$$` is code."]})
    assert equations(notebooks(root)[0]) == [("eq-a", "3.1")]
