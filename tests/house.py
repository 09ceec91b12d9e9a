"""The rules of the book as functions. Each yields what it complains about, so that it can be shown to complain.

`LESSON_RULES` take a notebook and the whole book, `PACKAGE_RULES` the folder of the repository."""
import ast
import io
import json
import re
import subprocess
import tokenize
from collections import Counter
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FLOORS = [["core", "exercises"], # the ground: `check`, seeds and `show` serve every module, also those of the first floor
          ["faces", "sphere", "kl", "files", "images", "diagrams", "layers", "adain", "robust", "patterns"],
          ["datasets", "reader", "encoder", "decoder", "growing", "cycles", "engine", "ciphernet", "perceptual"],
          ["automodulator", "deciphering", "metrics"],
          ["train_automodulator", "train_deciphering", "mixing", "inversion"],
          ["reports", "sharp", "baselines", "tables"], # uses of uses: what `mixing` mixes is shown and measured, what `train_automodulator` trains is given eyes, and rivals
          ["runs", "rivals"], # from settings to a report; the second paper's rivals stand on the first's
          ["cli", "widgets"]]
HEAVY = ("lpips", "torchvision", "sklearn", "ipywidgets", "matplotlib", "scipy", "pytorch_fid", "PIL.ImageShow")
WEIGHTS_LIMIT = 12 * 2**20
OUTPUT_LIMIT = 150 * 2**10
COLUMNS = 110
ANSWERS = "<details><summary>Answers" # to a lesson's questions, unfolded by who has thought about them
LESSON_RULES, PACKAGE_RULES = {}, {}


def lesson_rule(f): LESSON_RULES[f.__name__] = f; return f
def package_rule(f): PACKAGE_RULES[f.__name__] = f; return f


# ---------------------------------------------------------------- notebooks

class Notebook:
    def __init__(self, path):
        self.path, self.name, self.raw = Path(path), Path(path).stem, nbformat.read(path, 4)
        self.cells = self.raw.cells
        self.number = int(self.name[:2]) if re.match(r"\d\d_", self.name) else None # None: not a lesson, such as index
        self.code = [c for c in self.cells if c.cell_type == "code"]
        self.prose = [c for c in self.cells if c.cell_type == "markdown"]

    @property
    def module(self):
        for c in self.code:
            if "default_exp" in (d := directives(c)): return d["default_exp"]


def notebooks(root=ROOT):
    "The notebooks of a book in reading order."
    paths = (p for p in (Path(root) / "nbs").rglob("*.ipynb")
             if not any(o.startswith(("_", ".")) for o in p.relative_to(root).parts))
    return [Notebook(p) for p in sorted(paths)]


def directives(cell):
    "The `#|` lines at the top of a code cell: word -> rest."
    found = {}
    for line in cell.source.splitlines():
        if not (m := re.match(r"\s*#\s*\|\s*([\w-]+):?\s*(.*)", line)): break
        found[m[1]] = m[2].strip()
    return found


def tree(cell):
    try: return ast.parse(cell.source)
    except SyntaxError: return ast.parse("")


def imports(node):
    "Every module that a piece of code imports, as dotted names."
    for n in ast.walk(node):
        if isinstance(n, ast.Import): yield from (a.name for a in n.names)
        if isinstance(n, ast.ImportFrom):
            base = ("genae." * (n.level > 0) + (n.module or "")).rstrip(".")
            yield from ([f"{base}.{a.name}" for a in n.names] if base == "genae" else [base])


def of_genae(node): return {m.split(".")[1] for m in imports(node) if m.startswith("genae.")}


def call(node):
    "The dotted name of what a call calls."
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def words(text):
    "Markdown without code, mathematics, pictures and comments: what is read aloud."
    for pattern in (r"```.*?```", r"<!--.*?-->", r"<[^>\n]*>", r"`[^`\n]*`", r"\$\$.*?\$\$", r"\$[^$\n]*\$", r"!\[[^\]]*\]\([^)]*\)"):
        text = re.sub(pattern, " ", text, flags=re.S)
    return text


EMOJI = re.compile("[\U0001F000-\U0001FAFF\u2600-\u2604\u2607-\u2712\u2715-\u27BF\uFE0F]") # stars and tick marks are not emoji


def unplain(text):
    if found := EMOJI.search(text): yield f"emoji {found[0]!r}"
    if found := re.search(r"\S*!.{0,20}", words(text)): yield f"exclamation mark: {found[0]!r}"


# ---------------------------------------------------------------- rules of a lesson

@lesson_rule
def opening(nb, book):
    if nb.number is None: return
    if any(w.startswith("export") for c in nb.code for w in directives(c)):
        first = directives(nb.cells[0]) if nb.cells[0].cell_type == "code" else {}
        if first.get("default_exp") != nb.name[3:]: yield f"the first cell must be '#| default_exp {nb.name[3:]}'"
    if not nb.prose or not re.match(rf"# {nb.name[:2]} \S.*\n+> \S", nb.prose[0].source):
        yield f"the first markdown cell must be '# {nb.name[:2]} Title' with a subtitle '> ...'"
    if not any("?" in c.source for c in nb.cells[:6] if c.cell_type == "markdown"): yield "no question in the first six cells"
    if not any(call(n) == "lesson" and [a.value for a in n.args] == [nb.name] for c in nb.code for n in ast.walk(tree(c))):
        yield f'no cell calls lesson("{nb.name}")'


@lesson_rule
def closing(nb, book):
    if nb.number is None: return
    last = [c.source.strip() for c in nb.cells if not c.source.startswith(ANSWERS)][-5:]
    wanted = dict(exercises=r"## Exercises\b", recap=r"## Recap$", table=r"recap\(\)$", next=r"Next: \[[^\]]+\]\(\w+\.ipynb\)",
                  final=r"#\|\s*hide\s*\nimport nbdev; nbdev\.nbdev_export\(\)$")
    for (part, pattern), text in zip(wanted.items(), last + [""] * (5 - len(last))):
        if not re.match(pattern, text): yield f"the last five cells are exercises, '## Recap', recap(), 'Next: [..](file.ipynb)', export: {part} is {text[:40]!r}"
    marked = [c.source for c in nb.prose if re.match(r"## Exercises\b", c.source)]
    answers = [k for k, c in enumerate(nb.cells) if c.source.startswith(ANSWERS)]
    if answers and not (len(answers) == 1 and nb.cells[answers[0] - 1].source.startswith("## Exercises")): yield "answers stand in one cell, below '## Exercises'"
    if not marked or len(re.findall(r"^\d+\.\s*★{1,3}\s", marked[-1], re.M)) < 3: yield "fewer than three exercises marked with one to three ★"


@lesson_rule
def imports_alone(nb, book):
    for c in nb.code:
        kinds = [isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree(c).body]
        if any(kinds) and not all(kinds) and "nbdev_export(" not in c.source:
            yield f"imports share a cell with other code: {c.source[:60]!r}"


@lesson_rule
def order(nb, book):
    "Lessons are read in the order of their files; two may share a number."
    if nb.number is None: return
    taught = {b.module: b.name for b in book if b.module and b.number is not None}
    for m in sorted(set().union(*(of_genae(tree(c)) for c in nb.code))):
        if m not in taught: yield f"genae.{m} is taught by no notebook"
        elif taught[m] >= nb.name: yield f"genae.{m} is taught in {taught[m]}, not before {nb.name}"


@lesson_rule
def one_idea_per_cell(nb, book):
    for c in nb.code:
        n = len([l for l in c.source.splitlines() if not re.match(r"\s*#\s*\|", l)])
        if n > 25: yield f"a code cell has {n} lines, 25 at most: {c.source[:60]!r}"
    for c in nb.prose:
        source = re.sub(r"<details>.*?</details>", "", c.source, flags=re.S) # what unfolds is read one by one
        text = re.sub(r"^\|.*$", "", words(source), flags=re.M) # the rows of a table are looked up, not read aloud
        if (n := len(text.split())) > 120: yield f"a markdown cell has {n} words, 120 at most: {c.source[:60]!r}"


@lesson_rule
def columns(nb, book):
    "Code that is projected fits on the wall."
    for c in nb.code:
        for line in c.source.splitlines():
            if len(line) > COLUMNS: yield f"a line of code has {len(line)} columns, {COLUMNS} at most: {line.strip()[:60]!r}"


@lesson_rule
def asserts(nb, book):
    proofs = ("check", "test_", "expect_fail", "nbdev_test")
    if not any(isinstance(n, ast.Assert) or call(n).startswith(proofs) for c in nb.code for n in ast.walk(tree(c))):
        yield "nothing is asserted"


@lesson_rule
def outputs(nb, book):
    stored = [o for c in nb.code for o in c.outputs]
    if any(o.output_type == "error" for o in stored): yield "an error is stored"
    if any(o.get("name") == "stderr" for o in stored): yield "stderr is stored: " + next(o.text for o in stored if o.get("name") == "stderr")[:80]
    if "widgets" in nb.raw.metadata or any("widget" in kind for o in stored for kind in o.get("data", {})): yield "widget state is stored"
    if (size := sum(len(json.dumps(o)) for o in stored)) > OUTPUT_LIMIT: yield f"outputs take {size / 1024:.0f} KB, {OUTPUT_LIMIT // 1024} at most"
    if not any(kind.startswith("image/") for o in stored for kind in o.get("data", {})): yield "no picture"


@lesson_rule
def plain(nb, book):
    for c in nb.prose: yield from unplain(c.source)
    for c in nb.code:
        if found := EMOJI.search(c.source): yield f"emoji {found[0]!r}"
        if found := re.search(r"^\s*[%!]\S+", c.source, re.M): yield f"magic {found[0]!r}"
        try: ast.parse(c.source)
        except SyntaxError as e: yield f"not Python: {e}"


@lesson_rule
def safe(nb, book):
    for c in nb.code: yield from unsafe(tree(c))


@lesson_rule
def links(nb, book):
    for c in nb.prose:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", c.source):
            if "://" in target: continue
            path = nb.path.parent / target if target else nb.path
            if not path.exists(): yield f"link to {target}, which does not exist"
            elif anchor.startswith("#eq-") and anchor[1:] not in dict(equations(Notebook(path))): yield f"link to {target}{anchor}, which is not defined"


# ---------------------------------------------------------------- equations

def display(cell): return re.findall(r"\$\$.*?\$\$", re.sub(r"```.*?```|`[^`\n]*`", "", cell.source, flags=re.S), re.S)


def equations(nb):
    "(label, tag) of each labelled equation."
    return [m for c in nb.prose for m in re.findall(r'<a id="(eq-[\w-]+)"></a>\s*\n\$\$(?:(?!\$\$).)*?\\tag\{([^}]*)\}\s*\$\$', c.source, re.S)]


@lesson_rule
def labels(nb, book):
    for c in nb.prose:
        shown, named = display(c), c.source.count('<a id="eq-')
        if len(shown) > 1: yield f"{len(shown)} display equations in one cell: {c.source[:60]!r}"
        if len(shown) != named or named != len(re.findall(r"\\tag\{", c.source)):
            yield f"{len(shown)} display equations, {named} labels, {c.source.count(chr(92) + 'tag{')} tags: {c.source[:60]!r}"
        if any("\\begin{align" in e for e in shown): yield "align: Sphinx would number it twice"
    mine = equations(nb)
    if len(mine) != sum(len(display(c)) for c in nb.prose): yield 'a display equation is not <a id="eq-..."></a>, newline, $$ ... \\tag{} $$'
    first = 1 + sum(len(equations(b)) for b in book if b.number == nb.number and b.name < nb.name) # lessons of one number count on
    wanted = [f"{nb.number}.{k}" for k in range(first, first + len(mine))]
    if (tags := [t for _, t in mine]) != wanted: yield f"tags are {tags}, not {wanted}"
    twice = Counter(label for b in book for label, _ in equations(b))
    for label, _ in mine:
        if twice[label] > 1: yield f"{label} is defined {twice[label]} times in the book"


LOSSES = re.compile(r"eq-(kl|age|l-|adain)") # what is trained on, and what the model rests on: two different second roads


def unproved(labels, ledger):
    "What is missing between the labels of the book and the lines of a ledger."
    roads = {}
    for line in ledger: roads.setdefault(line["label"], set()).add(line["how"])
    for label in labels:
        if label not in roads: yield f"{label} is never checked"
        elif roads[label] == {"invariance"}: yield f"{label} is checked by invariance only: one function beside itself also holds when both are wrong"
        elif LOSSES.match(label) and len(roads[label]) < 2: yield f"{label} is a loss and is checked by {', '.join(roads[label])} only"
    for label in roads:
        if label not in labels: yield f"{label} is checked but not defined in any notebook"


# ---------------------------------------------------------------- rules of the package

def modules(root): return sorted(p for p in (Path(root) / "genae").glob("*.py") if not p.name.startswith("_"))


def unsafe(node):
    for name in imports(node):
        if name.split(".")[0] in ("pickle", "dill", "joblib", "shelve", "marshal"): yield f"import {name}: nothing is pickled here"
    for n in ast.walk(node):
        given = {k.arg: ast.unparse(k.value) for k in n.keywords} if isinstance(n, ast.Call) else {}
        if call(n) == "torch.save": yield "torch.save pickles: use safetensors"
        if call(n) == "torch.load" and given.get("weights_only") != "True": yield "torch.load without weights_only=True"
        if given.get("allow_pickle", "False") != "False": yield "allow_pickle"


@package_rule
def floors(root):
    level = {m: i for i, floor in enumerate(FLOORS) for m in floor}
    for path in modules(root):
        if path.stem not in level: yield f"{path.stem} stands on no floor"; continue
        for m in sorted(of_genae(ast.parse(path.read_text()))):
            if level.get(m, 99) >= level[path.stem]: yield f"{path.stem} imports {m}, which is not on a floor below it"


@package_rule
def documented(root):
    "A docstring of one line; one parameter per line; what is a tensor, or has neither type nor default, is explained in a comment, alone or with the parameter above."
    for path in modules(root):
        source = path.read_text()
        comments = {t.start[0] for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}
        for f in ast.parse(source).body:
            if not isinstance(f, (ast.FunctionDef, ast.ClassDef)) or f.name.startswith("_"): continue
            name = f"{path.stem}.{f.name}"
            if not (doc := ast.get_docstring(f)) or "\n" in doc: yield f"{name} has no docstring of one line"
            if isinstance(f, ast.ClassDef): continue
            lone = {a.arg for a in f.args.args[:len(f.args.args) - len(f.args.defaults)]} # without a default
            given = [a for a in f.args.posonlyargs + f.args.args + [f.args.vararg] + f.args.kwonlyargs + [f.args.kwarg]
                     if a and a.arg not in ("self", "cls")]
            if len({a.lineno for a in given}) < len(given): yield f"{name}: one parameter per line"
            explained = False
            for a in given:
                obscure = a.arg in lone if a.annotation is None else "Tensor" in ast.unparse(a.annotation)
                explained = a.lineno in comments or explained and obscure
                if obscure and not explained: yield f"{name}: no comment says what {a.arg} is"


@package_rule
def package_safe(root):
    for path in modules(root): yield from (f"{path.stem}: {c}" for c in unsafe(ast.parse(path.read_text())))


@package_rule
def light(root):
    "Heavy packages are imported inside the functions that need them."
    for path in modules(root):
        for n in ast.parse(path.read_text()).body:
            top = imports(n) if isinstance(n, (ast.Import, ast.ImportFrom)) else ()
            yield from (f"{path.stem} imports {m} at the top" for m in top if m.split(".")[0] in HEAVY)


@package_rule
def weights(root):
    size = sum(p.stat().st_size for p in (Path(root) / "genae" / "weights").rglob("*") if p.is_file())
    if size > WEIGHTS_LIMIT: yield f"shipped weights take {size / 2**20:.1f} MB, {WEIGHTS_LIMIT >> 20} at most"


def texts(root):
    "The text files of the repository with what they say; of a notebook, sources and text outputs."
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True)
    inside = listed.returncode == 0 and (Path(root) / ".git").exists()
    paths = [Path(root) / l for l in listed.stdout.splitlines()] if inside else [p for p in Path(root).rglob("*") if not {".git", ".venv"} & set(p.parts)]
    for path in sorted(p for p in paths if p.is_file()):
        if path.suffix == ".ipynb":
            cells = Notebook(path).cells
            yield path, "\n".join([c.source for c in cells] + [json.dumps({**o, "data": {k: v for k, v in o.get("data", {}).items() if k.startswith("text/")}})
                                                            for c in cells for o in c.get("outputs", [])])
        else:
            try: yield path, path.read_text()
            except UnicodeDecodeError: pass


MACHINE = re.compile(r"(?<![\w.~$}<])/(?:root|home|tmp|work|Users|mnt|workspace)/[\w.]")


@package_rule
def no_machine_paths(root):
    for path, text in texts(root):
        if found := MACHINE.search(text): yield f"{path.relative_to(root)} names a path of one machine: {text[found.start():found.start() + 40]!r}"


@package_rule
def plain_pages(root):
    for path, text in texts(root):
        if path.suffix == ".md": yield from (f"{path.relative_to(root)}: {c}" for c in unplain(text))
