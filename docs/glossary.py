"""The glossary of the book as data: the tables of nbs/91_glossary.ipynb, read by that notebook and by tests/test_glossary.py."""
import ast
import io
import re
import runpy
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["term", "symbol", "code", "shape, range", "what it is", "elsewhere", "lesson"]

# What the lessons print in bold and is no term. Left out by rule: what ends a sentence or asks (**Predict:**), what stands in a quotation or a
# table. Left out by name: these, which are stressed, not introduced.
STRESSED = re.split(r";\s*", """Needs; Gives; Predict; twice, by roads that do not share code; nothing changes; how far; in one stroke; three; eight;
    through; lies; blurred; average of pictures; is; exactly uniform; fill the prior; along its tangent; mean; origin; the same request; same size; variance;
    standard deviation; every; could; freezes; where; spread the codes; which; pairs; place along the curve; along; mark; pay; loss may be negative;
    one number for each picture; no step turns a code by more than $\\arctan \\lambda$; The automodulator; The cipher; Add a picture""")


def house(root=ROOT): return runpy.run_path(str(Path(root) / "tests" / "house.py"))


def read(root=ROOT):
    "The entries, in order: a dict with a key for each column and the `section`."
    notebook = house(root)["Notebook"](Path(root) / "nbs" / "91_glossary.ipynb")
    entries, section = [], ""
    for cell in notebook.prose:
        for line in cell.source.splitlines():
            if m := re.match(r"## (.*)", line): section = m[1]
            cells = [c.strip() for c in line.strip().strip("|").split("|")] if line.startswith("|") else []
            if len(cells) == len(COLUMNS) and cells[0] != "term" and set(cells[0]) != {"-"}:
                entries.append(dict(zip(COLUMNS, cells), section=section))
    return entries


def names(entry):
    "The names in code that an entry explains."
    return re.findall(r"`(\w+)`", entry["code"])


def letters(entry):
    "The letters that an entry defines, in formulas and in shapes: B, z_A, c_in."
    return set(re.findall(r"\$\\?(?:hat )?([A-Za-z](?:_\w)?)\$", entry["symbol"])) | set(names(entry))


def spoken(entry):
    "All words for the thing: its name here and elsewhere, and those that its explanation gives."
    return " ".join(entry[c] for c in ("term", "what it is", "elsewhere")).lower()


def find(entries, word):
    "The entries that mention a word, or a letter, anywhere."
    return [e for e in entries if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", " ".join(e[c] for c in COLUMNS[:-1]), re.I)]


def show(entries):
    "Some entries as Markdown."
    return "\n".join(f"| {' | '.join(row)} |" for row in [COLUMNS, ["---"] * len(COLUMNS), *([e[c] for c in COLUMNS] for e in entries)])


# ---------------------------------------------------------------- what the book says

def introduced(root=ROOT):
    "(notebook, term) for what the lessons introduce in bold; the back matter introduces nothing."
    for nb in house(root)["notebooks"](root):
        for line in "\n".join(c.source for c in nb.prose).splitlines() if nb.number is not None and nb.number < 90 else ():
            if line.startswith((">", "|")): continue
            for term in re.findall(r"\*\*([^*]+)\*\*", line):
                if term[-1] not in ".:?" and term not in STRESSED: yield nb.name, term


def signatures(root=ROOT):
    "(module.function, parameter, its comment) of what the package exports: functions, methods that begin an object, and fields of records."
    rules = house(root)
    for path in rules["modules"](root):
        source = path.read_text()
        comments = {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
        for f in ast.parse(source).body:
            if not isinstance(f, (ast.FunctionDef, ast.ClassDef)) or f.name.startswith("_"): continue
            name = f"{path.stem}.{f.name}"
            for g in [f] if isinstance(f, ast.FunctionDef) else f.body:
                if isinstance(g, ast.AnnAssign): yield name, g.target.id, comments.get(g.lineno, "")
                if not isinstance(g, ast.FunctionDef) or g is not f and g.name != "__init__": continue
                a = g.args
                for p in filter(None, [*a.posonlyargs, *a.args, a.vararg, *a.kwonlyargs, a.kwarg]):
                    if p.arg not in ("self", "cls"): yield name, p.arg, comments.get(p.lineno, "")
                if g.returns: yield name, "return", comments.get(g.returns.end_lineno, "")


def shape_letters(comment):
    "The letters of the shapes in a comment: (B, 2C) -> B, C. Words and numbers are no letters."
    for inside in re.findall(r"\(([^()]*,[^()]*)\)", comment):
        parts = [p.strip() for p in inside.split(",") if p.strip()]
        if all(re.fullmatch(r"\.\.\.|[\w+ -]+", p) for p in parts):
            yield from (m for p in parts for m in re.findall(r"(?<![A-Za-z_])[A-Za-z](?:_\w+)?(?!\w)", p))
