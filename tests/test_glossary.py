"The glossary has every word that the package shares and every term that a lesson introduces, each once, in order, with its lesson."
import re
import sys
from collections import defaultdict

import pytest
from house import ROOT, Notebook, modules
from scratch import scratch_book

sys.path.insert(0, str(ROOT / "docs"))
import glossary

ENTRIES = glossary.read(ROOT)
TWICE = {"active", "d_x", "f", "flip", "i", "k", "layers", "n", "scale", "shift"} # names in code with two meanings; no others, if it can be helped
HEAD = f"| {' | '.join(glossary.COLUMNS)} |\n|{'---|' * 7}\n"


def unexplained(root, entries):
    "What is not in the glossary: shared parameters, letters of shapes, terms in bold."
    named, letters = {n for e in entries for n in glossary.names(e)}, set().union(*map(glossary.letters, entries), set())
    users = defaultdict(set)
    for function, parameter, comment in glossary.signatures(root):
        users[parameter].add(function)
        for letter in glossary.shape_letters(comment):
            if letter not in letters: yield f"{function}: the shape of {parameter} has the letter {letter}, which no entry defines"
    users.pop("return", None)
    for parameter, functions in users.items():
        if len(functions) > 1 and parameter not in named: yield f"{parameter} is a parameter of {', '.join(sorted(functions)[:3])}, and has no entry"
    words = " | ".join(map(glossary.spoken, entries))
    for name, term in glossary.introduced(root):
        if not re.search(rf"(?<!\w){re.escape(term.lower())}(?!\w)", words): yield f"{name} introduces {term!r}, which is in no entry and not in STRESSED"


def untrue(root, entries):
    "What is wrong in the glossary itself."
    said = "".join(p.read_text() for p in modules(root))
    for section in dict.fromkeys(e["section"] for e in entries):
        mine = [e["term"].lower() for e in entries if e["section"] == section]
        if mine != sorted(mine): yield f"{section}: {next(a for a, b in zip(mine, sorted(mine)) if a != b)!r} is not in its place"
    for term, n in ((t, [e["term"] for e in entries].count(t)) for t in {e["term"] for e in entries}):
        if n > 1: yield f"{term} has {n} entries"
    for e in entries:
        if not e["what it is"]: yield f"{e['term']}: not a word on what it is"
        for n in glossary.names(e):
            if not re.search(rf"\b{n}\b", said): yield f"{e['term']}: genae has no {n}"
        if not (m := re.fullmatch(r"\[(\d\d)\]\((\w+)\.ipynb\)", e["lesson"])) or not m[2].startswith(m[1]): yield f"{e['term']}: no lesson"; continue
        if not (path := root / "nbs" / f"{m[2]}.ipynb").exists(): yield f"{e['term']}: there is no {m[2]}"; continue
        text = "\n".join(c.source for c in Notebook(path).cells).lower()
        if not any(re.search(rf"(?<!\w){re.escape(w.lower())}", text) for w in [e["term"], *glossary.names(e), *re.findall(r"[A-Za-z-]{5,}", e["term"])]):
            yield f"{e['term']}: {m[2]} does not mention it"
    for name in {n for e in entries for n in glossary.names(e)}:
        terms = [e["term"] for e in entries if name in glossary.names(e)]
        if (len(terms) > 1) != (name in TWICE): yield f"{name} means {' and '.join(terms)}: say so in TWICE, or rename"


def test_everything_is_explained(): assert not (found := list(unexplained(ROOT, ENTRIES))), "\n".join(found)
def test_what_it_says_is_so(): assert not (found := list(untrue(ROOT, ENTRIES))), "\n".join(found)


def test_what_is_left_out_is_there():
    "No stressed phrase is listed that no lesson has any more."
    bold = {t for nb in (ROOT / "nbs").glob("*.ipynb") for c in Notebook(nb).prose for t in re.findall(r"\*\*([^*]+)\*\*", c.source)}
    assert not (found := [s for s in glossary.STRESSED if s not in bold])


def test_measured(report):
    users = defaultdict(set)
    for function, parameter, _ in glossary.signatures(ROOT): users[parameter].add(function)
    report(f"glossary: {len(ENTRIES)} entries, {len({n for e in ENTRIES for n in glossary.names(e)})} names in code, of which "
           f"{sum(len(f) > 1 for f in users.values()) - 1} are parameters that functions share; {len({t for _, t in glossary.introduced(ROOT)})} terms that lessons introduce")


# ---- the same functions on a small book

PACKAGE = '''def one(
    x, # (B, q) pictures
    way: int,
):
    "One."

def two(
    way: int,
):
    "Two."
'''
GOOD = ["| batch | $B$, $q$ | `x` | 1 | Few. | | [03](03_x.ipynb) |", "| way | | `way` | | A **road**. | A road | [03](03_x.ipynb) |"]


def small(root, rows=GOOD, lesson="A **road**, or way, in a batch. **Predict:** **is** it?", package=PACKAGE):
    book = scratch_book(root, **{"03_x": "md:" + lesson, "91_glossary": "md:## All\n\n" + HEAD + "\n".join(rows)})
    (book / "genae" / "a.py").write_text(package)
    (book / "tests").mkdir()
    (book / "tests" / "house.py").write_text((ROOT / "tests" / "house.py").read_text())
    return book, glossary.read(book)


def test_a_good_glossary_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "TWICE", set())
    assert not [*unexplained(*(made := small(tmp_path / "book"))), *untrue(*made)]


@pytest.mark.parametrize("complaint, change", [
    ("way is a parameter of a.one, a.two, and has no entry", dict(rows=[GOOD[0], GOOD[1].replace("`way`", "")])),
    ("the letter q", dict(rows=[GOOD[0].replace(", $q$", ""), GOOD[1]])),
    ("the letter Q", dict(package=PACKAGE.replace('way: int,\n):\n    "Two', 'way: int, # (Q,)\n):\n    "Two'))),
    ("introduces 'river'", dict(lesson="A **road**, a **river**.")),
    ("is not in its place", dict(rows=GOOD[::-1])),
    ("has 2 entries", dict(rows=[*GOOD, GOOD[1]])),
    ("not a word", dict(rows=[GOOD[0].replace("Few.", ""), GOOD[1]])),
    ("genae has no z", dict(rows=[GOOD[0].replace("`x`", "`x`, `z`"), GOOD[1]])),
    ("there is no 04_y", dict(rows=[GOOD[0].replace("[03](03_x", "[04](04_y"), GOOD[1]])),
    ("does not mention", dict(lesson="A **road**.")),
    ("x means batch and way", dict(rows=[GOOD[0], GOOD[1].replace("`way`", "`way`, `x`")]))])
def test_what_is_missing_is_seen(complaint, change, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "TWICE", set())
    found = [*unexplained(*(made := small(tmp_path / "book", **change))), *untrue(*made)]
    assert any(complaint in f for f in found), found


@pytest.mark.parametrize("comment, letters", [
    ("# (B, 2C) codes", "BC"), ("# (N, k) for each, (K,) of them", "NkK"), ("# (B, channels, size, size)", "B"), ("# 0.9 (see below, often)", ""),
    ("# (..., d) or (4, d)", "dd"), ("# (B, c_in, r, r)", ["B", "c_in", "r", "r"]), ("# B of them", "")])
def test_letters_of_shapes(comment, letters): assert list(glossary.shape_letters(comment)) == list(letters)
