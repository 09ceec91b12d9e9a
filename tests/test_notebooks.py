"One case per notebook: it runs from top to bottom, offline, within its time."
import json

import pytest
from conftest import LIMIT, MadeRun, Run
from house import ROOT, notebooks
from scratch import scratch_book

BUDGET = 30 # seconds of one core for a lesson


@pytest.mark.parametrize("nb", notebooks(), ids=lambda nb: nb.name)
def test_notebook(nb, book):
    passed, seconds, said = book.lesson(nb.path)
    assert passed, said
    assert seconds < LIMIT, f"{nb.name} took {seconds:.0f} s"


def test_times(book, report):
    times = {name: seconds for name, (_, seconds, _) in book.all().items()}
    if any(times.values()): # nbdev_test says how long it took only if all passed
        report("seconds of each notebook: " + ", ".join(f"{name} {s:.0f}" for name, s in times.items()))


def test_lessons_keep_their_budget():
    "As docs/lesson_seconds.py measured them, in seconds of one core: a busy machine is no excuse and no accusation."
    measured = ROOT / "results" / "lesson_seconds.json"
    if not measured.exists(): pytest.skip("not measured yet: python docs/lesson_seconds.py")
    slow = {name: s for name, s in json.loads(measured.read_text())["seconds"].items() if s > BUDGET}
    assert not slow, slow


def test_a_broken_notebook_fails(tmp_path):
    root = scratch_book(tmp_path / "book", **{"00_fine": "assert True", "01_broken": "assert 1 == 2"})
    run = Run(root, tmp_path)
    assert [passed for passed, _, _ in run.all().values()] == [True, False]
    assert "assert 1 == 2" in run.lesson(root / "nbs" / "01_broken.ipynb")[2]


def test_a_notebook_that_was_not_run_fails(tmp_path):
    root = scratch_book(tmp_path / "book", **{"00_fine": "assert True"})
    assert not Run(root, tmp_path).lesson(root / "nbs" / "01_missing.ipynb")[0]


@pytest.mark.parametrize("log, passed", [
    ("- Completed {nb}\nSuccess.\n", True),
    ("Success.\n", False),
    ("- Completed {nb}\n", False),
    ("- Completed {nb}\n\nnbdev Tests Failed On The Following Notebooks:\n=====\n\t00_fine.ipynb\n", False),
    ("- Completed {nb}\n\nnbdev Tests Failed On The Following Notebooks:\n=====\n\t01_other.ipynb\n", True)])
def test_the_run_of_make_test_is_read_rightly(tmp_path, log, passed):
    nb = tmp_path / "nbs" / "00_fine.ipynb"
    (tmp_path / "log").write_text(log.format(nb=nb))
    assert MadeRun(tmp_path, tmp_path / "log").lesson(nb)[0] == passed
