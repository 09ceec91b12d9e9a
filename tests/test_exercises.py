"Exercises: each is tried in four ways, as functions and as files, and what the package carries is what the lessons ask."
import json
import re
import subprocess
import sys

import pytest
from genae.exercises import bank, fill_bank, four_ways, grade, names_of, notebook_of, outcomes, write_exercises
from house import ROOT

ASKED = [(lesson, e.name) for lesson, (setup, some) in bank().items() for e in some if "variant(0," in setup] # lessons try the constants of seed 0


def parts(lesson, role):
    "Sources of a lesson's cells of this role, by exercise."
    cells = ["".join(c["source"]) for c in json.loads((ROOT / "nbs" / f"{lesson}.ipynb").read_text())["cells"] if c["cell_type"] == "code"]
    names = [m[1] for c in cells if (m := re.search(r"^#\| exercise: spec\ndef spec_(\w+)", c))]
    return dict(zip(names, [c.partition("\n")[2] for c in cells if c.startswith(f"#| exercise: {role}")]))


def handed_in(folder, lesson, answers, seed=0):
    "A student's file, with these sources in the holes."
    nb = notebook_of(lesson, seed)
    for cell in nb["cells"]:
        for name, source in answers.items():
            if "NotImplementedError" in cell["source"] and re.search(rf"^def {name}\(", cell["source"], re.M): cell["source"] = source
    path = folder / f"{lesson}.ipynb"
    path.write_text(json.dumps(nb))
    return path


def test_the_package_carries_what_the_lessons_ask(tmp_path):
    fill_bank(ROOT / "nbs", tmp_path / "bank.json")
    assert (tmp_path / "bank.json").read_text() == (ROOT / "genae" / "exercises.json").read_text(), "python docs/fill_bank.py"


@pytest.mark.parametrize("lesson, name", ASKED)
def test_other_constants(lesson, name):
    setup, some = bank()[lesson]
    names = names_of(setup, next(e for e in some if e.name == name), 1)
    exec(parts(lesson, "key")[name], names)
    assert "are told apart" in four_ways(name, names)


@pytest.mark.parametrize("lesson", bank())
def test_files_of_students(tmp_path, lesson):
    setup, some = bank()[lesson]
    keys, wrong = parts(lesson, "key"), parts(lesson, "wrong")
    assert keys.keys() == wrong.keys() == {e.name for e in some}
    assert {o.state for o in outcomes(handed_in(tmp_path, lesson, {}))} == {"not yet"}
    assert {o.state for o in outcomes(handed_in(tmp_path, lesson, keys, 5))} == {"passes"}
    mistaken = {name: source + f"\n\n{name} = wrong_{name}_1" for name, source in wrong.items()}
    assert {o.state for o in outcomes(handed_in(tmp_path, lesson, mistaken))} == {"fails"}
    broken = outcomes(handed_in(tmp_path, lesson, {name: f"def {name}(x:" for name in keys}))
    assert {(o.state, o.said.split(":")[0]) for o in broken} == {("broken", "SyntaxError")}


def test_the_package_s_loop_counts(tmp_path):
    "A student who changes loop and inputs of the own notebook gains nothing."
    path = handed_in(tmp_path, "11_adain", {"faint": "def spec_faint(v, s): return 0.\ndef faint(v, s): return 0."})
    assert [o.state for o in outcomes(path) if o.name == "faint"] == ["fails"]


def test_an_answer_and_its_trial_may_share_a_cell(tmp_path):
    key = parts("11_adain", "key")["faint"]
    path = handed_in(tmp_path, "11_adain", {"faint": key + '\n\ntry_answer("11_adain", faint)'})
    assert [o.state for o in outcomes(path) if o.name == "faint"] == ["passes"]


@pytest.mark.parametrize("source, said", [("import os; os.write(1, b'x')\ndef faint(v, s): return 0.", "own output"), ("while True: pass\ndef faint(v, s): return 0.", "did not end within"), ("import os; os._exit(0)\ndef faint(v, s): pass", "ended Python")])
def test_what_would_take_the_grader_along(tmp_path, source, said):
    outcome, = grade(handed_in(tmp_path, "11_adain", {"faint": source}), seconds=15)
    assert outcome.state == "broken" and said in outcome.said


def test_a_students_file_stays(tmp_path):
    path, = write_exercises("11", tmp_path)
    path.write_text("mine")
    assert write_exercises("11", tmp_path) == [] and path.read_text() == "mine"


def test_a_class_is_graded(tmp_path):
    for student in ("ann", "bo"): write_exercises("11", tmp_path / student)
    handed_in(tmp_path / "bo", "11_adain", parts("11_adain", "key"))
    (tmp_path / "cy.ipynb").write_text("{")
    done = subprocess.run([sys.executable, "-c", f"from genae.exercises import print_grades; print_grades({str(tmp_path)!r})"], capture_output=True, text=True, check=True)
    assert [line.rpartition(": ")[2] for line in done.stdout.splitlines() if line[0] != " "] == ["0 of 3", "3 of 3", "0 of 1"]
