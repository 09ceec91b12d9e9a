"""Mutants: does anything notice when an exported cell is wrong? `make mutants`; hours, so pytest does not collect it.

A mutant is one small edit of one exported cell, made in the lesson's cell and in the module alike. The lesson runs first, cell by cell
in a process that is forked where the edited cell begins; what survives is shown to the tests that import the module. A mutant that
crashes (any error but a failed assertion) asks little of a lesson, so scores are given of all and of the silent ones, which do not.
Nothing is written in the working tree but results/mutants.json."""
import argparse
import ast
import hashlib
import json
import math
import os
import re
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import Counter, defaultdict
from itertools import zip_longest
from pathlib import Path

os.environ |= dict(OMP_NUM_THREADS="1", MPLBACKEND="agg", GENAE_DEVICE="cpu", IN_TEST="1") # one thread: a fork keeps no other
sys.dont_write_bytecode = True # a mutant of the same second and length would pass for the original
sys.path.insert(0, str(Path(__file__).resolve().parent))
from house import ROOT, call, directives, imports, notebooks # noqa: E402

RESULTS = ROOT / "results" / "mutants.json"
ORDER = ("encoder decoder automodulator train_automodulator deciphering train_deciphering ciphernet perceptual engine cycles growing layers "
         "adain robust kl sphere mixing patterns core faces images datasets reader files reports runs cli widgets").split() # others follow
LONG = {"test_new_user.py", "test_runs.py"} # last, since one failure is enough
COSTLY = {"test_cli.py": "cli", "test_widgets.py": "widgets"} # minutes: for the one module that nothing else tests
SURVIVED, NOTICED, CRASHED = range(3)
SKIPPED = {"slow", "cuda", "exercise"} # cells that `make test` skips too

# ---------------------------------------------------------------- what a mutant is

SIGNS = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}
COMPARED = {ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"), ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="),
            ast.Is: ("is", "is not"), ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in")}
QUIET = re.compile(r"(.*\.)?(show|print|warn|lesson|recap|expect_fail)$|plt\.|ax\.|super$|super\(\)") # what is seen, or said: not mutated
UNSEEN = re.compile(r"show$|plot|_repr|__repr__|_png") # functions that draw
SYMMETRIC = {"max", "min", "maximum", "minimum", "isinstance", "hasattr", "mul", "add"} # swapping their arguments says nothing
LINKS = {"clamp", "abs", "square", "sqrt", "exp", "log", "flip", "round", "clone", "eval", "float", "sigmoid", "tanh", "sort"} # of a chain; it holds without them


class Finder(ast.NodeVisitor):
    "The edits of one cell: (kind, start, end, new text), as places in its source."
    def __init__(self, source, fields=()):
        self.source, self.fields, self.found = source, dict(fields), []
        self.starts = [0]
        for line in source.split("\n"): self.starts.append(self.starts[-1] + len(line) + 1)
        self.lines, self.bound = source.split("\n"), []
        self.visit(ast.parse(source))

    def place(self, line, column): return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())
    def span(self, n): return self.place(n.lineno, n.col_offset), self.place(n.end_lineno, n.end_col_offset)
    def text(self, n): a, b = self.span(n); return self.source[a:b]
    def whole(self, n): return self.text(n) if isinstance(n, (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript, ast.List)) else f"({self.text(n)})"
    def edit(self, kind, node, new): self.found.append((kind, *self.span(node), new))
    def between(self, kind, left, right, old, new): # the operator between two nodes
        a, b = self.span(left)[1], self.span(right)[0]
        if (m := re.search(r"(?<!\w)" + r"\s+".join(map(re.escape, old.split())) + r"(?!\w)", self.source[a:b])): self.found.append((kind, a + m.start(), a + m.end(), new))

    def visit_Raise(self, n): pass
    def visit_Assert(self, n): pass
    def visit_JoinedStr(self, n): pass
    def visit_Import(self, n): pass
    def visit_ImportFrom(self, n): pass
    def visit_AnnAssign(self, n): self.visit(n.value) if n.value else None
    def visit_Lambda(self, n): self.visit(n.body)

    def visit_FunctionDef(self, n):
        if UNSEEN.match(n.name): return
        for d in n.decorator_list:
            if call(d) in ("torch.no_grad", "torch.inference_mode"):
                a, b = self.span(d)
                self.found.append(("forgotten detach", self.source.rindex("@", 0, a), b, ""))
        for d in n.args.defaults + [d for d in n.args.kw_defaults if d]: self.visit(d)
        self.options(n)
        self.bound.append(n)
        for s in n.body[ast.get_docstring(n) is not None:]: self.visit(s)
        self.bound.pop()

    def visit_ClassDef(self, n):
        for s in n.body[ast.get_docstring(n) is not None:]: self.visit(s)

    def options(self, n): # a parameter that is given and not used: its default is bound anew where the body begins
        a = n.args
        given = list(zip((a.posonlyargs + a.args)[::-1], a.defaults[::-1]))[::-1] + [(k, d) for k, d in zip(a.kwonlyargs, a.kw_defaults) if d]
        documented = ast.get_docstring(n) is not None
        first = n.body[documented] if len(n.body) > documented else None
        used = {m.id for m in ast.walk(n) if isinstance(m, ast.Name)}
        for p, d in given:
            if p.arg not in used or first is None: continue
            start, line = self.place(first.lineno, first.col_offset), f"{p.arg} = {self.text(d)}"
            if decorated := getattr(first, "decorator_list", None): start = self.source.rindex("@", 0, self.span(decorated[0])[0])
            plain = isinstance(first, (ast.Expr, ast.Assign, ast.AugAssign, ast.Return, ast.Raise, ast.Assert))
            self.found.append(("ignored option", start, start, line + ("; " if plain else "\n" + " " * first.col_offset)))

    def visit_Attribute(self, n):
        if isinstance(n.ctx, ast.Load) and isinstance(n.value, ast.Name) and n.attr in self.fields: self.edit("ignored option", n, self.fields[n.attr])
        self.generic_visit(n)

    def visit_Constant(self, n):
        if isinstance(n.value, bool): self.edit("boolean flipped", n, str(not n.value))
        elif isinstance(n.value, int): self.edit("off by one", n, str(n.value + 1))

    def visit_UnaryOp(self, n):
        if isinstance(n.op, ast.USub): self.edit("sign", n, self.text(n.operand))
        self.generic_visit(n)

    def visit_BinOp(self, n):
        if type(n.op) in SIGNS: self.between("sign", n.left, n.right, *SIGNS[type(n.op)])
        if isinstance(n.op, (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.BitOr)): self.edit("dropped term", n, self.whole(n.left))
        if isinstance(n.op, (ast.Add, ast.Mult)): self.edit("dropped term", n, self.whole(n.right))
        if isinstance(n.op, ast.Sub): self.edit("dropped term", n, f"(-{self.whole(n.right)})")
        self.generic_visit(n)

    def visit_BoolOp(self, n):
        for v in n.values[1:]: self.found.append(("dropped term", self.span(n.values[n.values.index(v) - 1])[1], self.span(v)[1], ""))
        self.generic_visit(n)

    def visit_Compare(self, n):
        for left, op, right in zip([n.left, *n.comparators], n.ops, n.comparators): self.between("comparison", left, right, *COMPARED[type(op)])
        self.generic_visit(n)

    def negated(self, test): self.edit("condition negated", test, self.whole(test.operand) if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else f"(not {self.whole(test)})")
    def visit_If(self, n):
        if isinstance(n.body[0], ast.Raise): self.edit("door removed", n.test, "False")
        else: self.negated(n.test)
        self.generic_visit(n)

    def visit_IfExp(self, n): self.negated(n.test); self.generic_visit(n)
    def visit_comprehension(self, n):
        for t in n.ifs: self.negated(t)
        self.generic_visit(n)

    def visit_With(self, n):
        a = self.place(n.lineno, n.col_offset)
        if len(n.items) == 1 and call(n.items[0].context_expr) in ("torch.no_grad", "torch.inference_mode"): self.found.append(("forgotten detach", a, self.span(n.items[0].context_expr)[1], "if True"))
        self.generic_visit(n)

    def visit_Call(self, n):
        name = call(n)
        if QUIET.match(name): return
        if isinstance(n.func, ast.Attribute):
            if n.func.attr == "detach": self.edit("forgotten detach", n, self.text(n.func.value))
            elif n.func.attr in LINKS and not name.startswith(("torch.", "math.", "F.")): self.edit("dropped term", n, self.text(n.func.value))
        given = sorted(n.args + n.keywords, key=lambda g: self.span(g)[0])
        last = [g for g in n.args if not isinstance(g, ast.Starred)][1:][-1:]
        for k, g in enumerate(given):
            if g not in n.keywords and g not in last: continue
            a, b = (self.span(given[k - 1])[1], self.span(g)[1]) if k else (self.span(g)[0], self.span(given[1])[0] if len(given) > 1 else self.span(g)[1])
            self.found.append(("dropped argument", a, b, ""))
        if name.split(".")[-1] not in SYMMETRIC:
            for p, q in list(zip(n.args, n.args[1:]))[:2]:
                if not isinstance(p, ast.Starred) and not isinstance(q, ast.Starred) and self.text(p) != self.text(q):
                    self.found.append(("swapped arguments", self.span(p)[0], self.span(q)[1], self.text(q) + self.source[self.span(p)[1]:self.span(q)[0]] + self.text(p)))
        if name == "range" and len(n.args) == 1 and not isinstance(n.args[0], ast.Constant): self.edit("off by one", n.args[0], f"{self.text(n.args[0])} - 1")
        self.visit(n.func)
        for g in n.args: self.visit(g)
        for k in n.keywords:
            if k.arg != "seed": self.visit(k.value)

    def visit_Expr(self, n):
        if self.bound and isinstance(n.value, ast.Call) and not QUIET.match(call(n.value)): self.edit("statement removed", n, "pass")
        self.generic_visit(n)

    def visit_AugAssign(self, n):
        if self.bound: self.edit("statement removed", n, "pass")
        if type(n.op) in SIGNS: self.between("sign", n.target, n.value, *(s + "=" for s in SIGNS[type(n.op)]))
        self.visit(n.value)

    def visit_Assign(self, n): # not what would leave a name unbound
        if self.bound:
            f = self.bound[-1]
            before = {a.arg for a in ast.walk(f.args) if isinstance(a, ast.arg)} | {
                m.id for m in ast.walk(f) if isinstance(m, ast.Name) and isinstance(m.ctx, ast.Store) and (m.lineno, m.col_offset) < (n.lineno, n.col_offset)}
            names = {m.id for t in n.targets for m in ast.walk(t) if isinstance(m, ast.Name) and isinstance(m.ctx, ast.Store)}
            made = f.name == "__init__" and any(isinstance(t, ast.Attribute) for t in n.targets) # the first who asks would miss it
            if names <= before and not made: self.edit("statement removed", n, "pass")
        for t in n.targets: self.visit(t)
        self.visit(n.value)

    def visit_Return(self, n):
        if n.value and not (isinstance(n.value, ast.Constant) and n.value.value is None): self.edit("result not returned", n, "return None")
        self.generic_visit(n)


def fields_of(sources):
    "Options that are fields of a dataclass: name -> text of the default, where that is plain."
    found = {}
    for s in sources:
        for c in ast.walk(ast.parse(s)):
            if not isinstance(c, ast.ClassDef) or not any("dataclass" in ast.unparse(d) for d in c.decorator_list): continue
            found |= {f.target.id: ast.unparse(f.value) for f in c.body if isinstance(f, ast.AnnAssign) and f.value and isinstance(f.value, (ast.Constant, ast.Tuple, ast.UnaryOp))}
    return found


def mutate(source, cell="", file="", fields=()):
    "The mutants of one cell."
    seen, repeated = {ast.dump(ast.parse(source))}, Counter()
    for kind, a, b, new in Finder(source, fields).found:
        mutated = source[:a] + new + source[b:]
        try: dump = ast.dump(ast.parse(mutated))
        except SyntaxError: continue
        if dump in seen: continue
        seen.add(dump)
        first, last = source.rfind("\n", 0, a) + 1, (source + "\n").index("\n", b)
        before, after = (re.sub(r"\s*\n\s*", " / ", t.strip()) for t in (source[first:last], mutated[first:last + len(mutated) - len(source)]))
        repeated[before, after] += 1
        name = hashlib.sha1("\0".join((cell, before, after, str(repeated[before, after]))).encode()).hexdigest()[:8]
        yield dict(id=name, kind=kind, file=file, cell=cell, before=before, after=after, source=mutated)


def sample(mutants, limit=None, seed=0):
    "An even choice over the kinds, and the same one wherever a mutant is still there."
    kinds = defaultdict(list)
    for m in mutants: kinds[m["kind"]].append(m)
    for k in kinds: kinds[k].sort(key=lambda m: hashlib.sha1(f"{seed} {m['id']}".encode()).digest())
    return [m for row in zip_longest(*(kinds[k] for k in sorted(kinds))) for m in row if m][:limit]


# ---------------------------------------------------------------- where a mutant runs

class Copy:
    "A copy of the tree in a temporary folder, in which one module at a time is a mutant."
    def __init__(self, root, folder):
        self.root, self.folder, self.tmp = Path(root), Path(folder) / "tree", Path(folder) / "tmp"
        listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, capture_output=True, text=True).stdout.splitlines()
        for name in listed or [str(p.relative_to(root)) for p in self.root.rglob("*")]: # without git, all there is
            if (self.root / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / name, self.folder / name)
        self.tmp.mkdir()
        os.environ |= dict(TMPDIR=str(self.tmp), PYTHONPATH=str(self.folder), PYTHONDONTWRITEBYTECODE="1",
                           XDG_CACHE_HOME=str(self.tmp / "cache")) # a mutant must not fill the user's cache
        tempfile.tempdir = None

    def put(self, module, mutant=None): # the mutant, or none
        text = (self.root / "genae" / f"{module}.py").read_text()
        if mutant: text = in_module(text, mutant)
        (self.folder / "genae" / f"{module}.py").write_text(text)


def code(source): return "\n".join(l for l in source.split("\n") if not re.match(r"\s*#\s*\|", l)).strip()


def in_module(text, mutant): # its cell within the exported module
    head = re.search(rf"^# %% \S+ #{mutant['cell']}\n", text, re.M)
    end = (text + "\n# %% ").index("\n# %% ", head.end())
    return text[:head.end()] + code(mutant["source"]) + "\n" + text[end:]


def forked(f, cpu=None, wall=3_600):
    "Run f in a forked process: (SURVIVED, NOTICED or CRASHED, seconds of the processor). Who is out of time is noticed."
    sys.stdout.flush()
    if not (pid := os.fork()):
        rc = CRASHED
        try:
            os.setsid()
            hushed()
            if cpu: resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu), math.ceil(cpu) + 5))
            rc = NOTICED if f() else SURVIVED
        except AssertionError: rc = NOTICED
        finally: os._exit(rc)
    end = time.time() + wall
    try:
        while not (done := os.wait4(pid, os.WNOHANG))[0] and time.time() < end: time.sleep(.01)
    finally:
        try: os.killpg(pid, signal.SIGKILL) # and what it has started and left
        except ProcessLookupError: pass
    _, status, usage = done if done[0] else os.wait4(pid, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else NOTICED, usage.ru_utime + usage.ru_stime


def hushed():
    null = os.open(os.devnull, os.O_RDWR)
    for n in (0, 1, 2): os.dup2(null, n)


def allowed(seconds): return dict(cpu=3 * seconds + 5, wall=10 * (3 * seconds + 5)) # others may use the processor too


def warm():
    "Import what lessons and tests use, but nothing of genae, before anything is forked."
    import importlib
    import torch
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    for name in ("numpy", "PIL.Image", "matplotlib.pyplot", "scipy.stats", "sklearn.cluster", "safetensors.torch", "torchvision.utils", "torchvision.transforms.v2.functional",
                 "torchvision.datasets", "torchvision.models", "lpips", "tqdm.auto", "fastcore.all", "fastcore.test", "IPython.display", "ipywidgets", "hypothesis", "pytest"):
        try: importlib.import_module(name)
        except ImportError: pass
    sys.modules["tqdm.std"].tqdm.monitor_interval = 0 # no thread


def lesson(copy, nb, module, mutants, said):
    "Show mutants to their lesson. said(id, what became of it); first said(None, what became of the lesson as it is)."
    os.chdir(copy.folder / "nbs")
    sys.path.insert(0, str(copy.folder))
    runpy.run_path(str(ROOT / "tests" / "strict" / "sitecustomize.py")) # no network, no warnings
    import matplotlib.pyplot as plt
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    cells = [c for c in nb.code if not SKIPPED & set(directives(c)) and "nbdev_export(" not in c.source]

    def run(source):
        exec(compile(source, "<cell>", "exec"), main.__dict__)
        plt.close("all")

    def rest(k, source=None): # from cell k on, with another source for it
        for n, c in enumerate(cells[k:]): run(source if source and not n else c.source)

    end, seconds = forked(lambda: rest(0))
    said(None, end)
    wiped(copy.tmp)
    if end != SURVIVED: return
    for k, c in enumerate(cells):
        mine = [m for m in mutants if m["cell"] == c.get("id")]
        kept = tempfile.mkdtemp(dir=copy.tmp.parent)
        if mine: shutil.copytree(copy.tmp, kept, dirs_exist_ok=True)
        for m in mine:
            copy.put(module, m)
            said(m["id"], forked(lambda: rest(k, m["source"]), **allowed(seconds))[0])
            wiped(copy.tmp) # what it left for the cells to come
            shutil.copytree(kept, copy.tmp, dirs_exist_ok=True)
        shutil.rmtree(kept)
        copy.put(module)
        mutants = [m for m in mutants if m not in mine]
        if not mutants: return
        run(c.source)


def wiped(folder):
    for p in folder.iterdir(): shutil.rmtree(p, ignore_errors=True) if p.is_dir() and not p.is_symlink() else p.unlink()


def concerned(module, root):
    "The tests that import a module."
    files = sorted((Path(root) / "tests").glob("test_*.py"), key=lambda p: (p.name in LONG, p.name))
    return [p.name for p in files if p.name != "test_mutants.py" and COSTLY.get(p.name, module) == module
            and f"genae.{module}" in set(imports(ast.parse(p.read_text())))]


def tests(copy, names, log=None):
    "Whether some files of tests fail; in a process of its own."
    if log: os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.chdir(copy.folder)
    sys.path[:0] = [str(copy.folder), str(copy.folder / "tests")]
    sys.modules.pop("house", None) # the copy's
    import pytest
    return pytest.main([*(f"tests/{n}" for n in names), "-x", "-q", "-p", "no:cacheprovider"]) != 0


# ---------------------------------------------------------------- what is remembered

def read(path): return json.loads(Path(path).read_text()) if Path(path).exists() else {}


def key(survivor): return tuple(survivor[k] for k in ("cell", "before", "after"))


def survivors(data): return [s for run in data.values() if isinstance(run, dict) for e in run.values() for s in e["survivors"]]


def write(path, name, module, entry):
    "Put one module's entry into the file. Reasons that people have given are kept, also of mutants that are not in it now."
    data = read(path)
    reasons = {key(s): s["reason"] for s in [*data.get("reasons", []), *survivors(data)] if s["reason"]}
    data.setdefault(name, {})[module] = entry
    for s in entry["survivors"]: s["reason"] = reasons.get(key(s), s["reason"])
    shown = {key(s) for s in survivors(data)}
    data["reasons"] = [dict(zip(("cell", "before", "after", "reason"), (*k, r))) for k, r in reasons.items() if k not in shown]
    scored(entry)
    side = Path(path).with_suffix(".part")
    side.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    side.replace(path)


KILLED = ("lesson", "crashed", "tests") # by a check of the lesson, by an error that comes of itself, by a test


def scored(entry):
    "Shares in percent; what a reason calls equivalent is not counted, and there is no share by both until the tests have seen all."
    killed = {k: len(entry[k].split()) for k in KILLED}
    same = sum("equivalent" in s["reason"].lower() for s in entry["survivors"])
    n, seen = sum(killed.values()) + len(entry["survivors"]) - same, all(s["tested"] for s in entry["survivors"])
    silent = n - killed["crashed"]
    share = lambda k, n: round(100 * k / n, 1) if n else None
    entry["score"] = dict(mutants=n, equivalent=same, by_lesson=share(killed["lesson"] + killed["crashed"], n), by_both=share(sum(killed.values()), n) if seen else None,
                          silent=silent, silent_by_lesson=share(killed["lesson"], silent), silent_by_both=share(killed["lesson"] + killed["tests"], silent) if seen else None)


def digest(nb, names, root):
    "Of everything that decides about a module's mutants."
    files = [p.read_text() for p in sorted((Path(root) / "genae").glob("*.py"))] + [(Path(root) / "tests" / n).read_text() for n in names]
    return hashlib.sha1("\0".join([c.source for c in nb.code] + files).encode()).hexdigest()[:12]


def mutants_of(nb, root=ROOT):
    "All mutants of a lesson's exported cells."
    exported = [c for c in nb.code if {"export", "exporti"} & set(directives(c))]
    module, fields = (Path(root) / "genae" / f"{nb.module}.py").read_text(), fields_of(c.source for c in exported)
    for c in exported:
        if all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(c.source).body): continue
        if in_module(module, dict(cell=c.id, source=c.source)) != module: raise SystemExit(f"cell {c.id} of {nb.name} differs from genae/{nb.module}.py: nbdev_export first")
        yield from mutate(c.source, c.id, f"nbs/{nb.name}.ipynb", fields)


def judge(nb, copy, results, name="after", limit=None, seed=0, lesson_only=False, again=False, root=ROOT):
    "Run the mutants of one module that are not decided yet; returns its entry."
    module, names = nb.module, concerned(nb.module, root)
    chosen, mark = sample(mutants_of(nb, root), limit, seed), digest(nb, names, root)
    entry = read(results).get(name, {}).get(module, {})
    if entry.get("digest") != mark and not again: entry = {}
    lost = {k: entry.get(k, "").split() for k in KILLED}
    alive = {s["id"]: s for s in entry.get("survivors", []) if not again} # again: those that survived are shown to all once more
    started, failed = time.time() - entry.get("minutes", 0) * 60, []

    def put():
        order = [m["id"] for m in chosen]
        write(results, name, module, dict(digest=mark, seed=seed, limit=limit, minutes=round((time.time() - started) / 60, 1), score={},
                                          **{k: " ".join(v) for k, v in lost.items()}, survivors=sorted(alive.values(), key=lambda s: order.index(s["id"]) if s["id"] in order else 0)))

    def heard(line):
        m, end = json.loads(line)
        if m is None: return failed.append(m) if end != SURVIVED else None
        if end != SURVIVED: lost["lesson" if end == NOTICED else "crashed"].append(m)
        else:
            full = next(c for c in chosen if c["id"] == m)
            alive[m] = {k: full[k] for k in ("id", "kind", "file", "cell", "before", "after")} | dict(tested=False, reason="")
        put()

    open_ = [m for m in chosen if m["id"] not in {*sum(lost.values(), []), *alive}]
    if open_:
        r, w = os.pipe()
        if not (pid := os.fork()):
            try:
                hushed()
                lesson(copy, nb, module, open_, lambda *line: os.write(w, (json.dumps(line) + "\n").encode()))
            finally: os._exit(0)
        os.close(w)
        with os.fdopen(r) as lines:
            for line in lines: heard(line)
        os.waitpid(pid, 0)
        copy.put(module)
        if failed or any(m["id"] not in {*sum(lost.values(), []), *alive} for m in open_): raise SystemExit(f"{nb.name} fails as it is: nothing can be said about its mutants")
    if not lesson_only:
        todo, seconds = [alive[m["id"]] for m in chosen if m["id"] in alive and not alive[m["id"]]["tested"]], 0
        if names and todo:
            log = copy.folder.parent / "tests.log"
            end, seconds = forked(lambda: tests(copy, names, log))
            if end != SURVIVED: raise SystemExit(f"{log.read_text()[-3_000:]}\n{', '.join(names)} fail as they are: nothing can be said about the mutants of {module}")
        for s in todo:
            survived = True
            if names:
                copy.put(module, next(m for m in chosen if m["id"] == s["id"]))
                survived = forked(lambda: tests(copy, names), **allowed(seconds))[0] == SURVIVED
                wiped(copy.tmp)
            if survived: s["tested"] = True
            else: lost["tests"].append(s["id"]); del alive[s["id"]]
            put()
        copy.put(module)
    put()
    return read(results)[name][module]


def main():
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler) # in the background; lessons press Ctrl-C
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--module", nargs="*", help="names of modules; all of them if not given")
    p.add_argument("--limit", type=int, help="mutants of a module, evenly over their kinds; all of them if not given")
    p.add_argument("--seed", type=int, default=0, help="of that choice")
    p.add_argument("--name", default="after", help="under which name the file keeps the run")
    p.add_argument("--lesson-only", action="store_true", help="leave the tests for another run")
    p.add_argument("--again", action="store_true", help="show the survivors to lesson and tests again, and keep what was killed")
    p.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    a = p.parse_args()
    book = {nb.module: nb for nb in notebooks() if nb.module}
    wanted = a.module or sorted(book, key=lambda m: ORDER.index(m) if m in ORDER else len(ORDER))
    if unknown := set(wanted) - set(book): p.error(f"no lesson exports {', '.join(sorted(unknown))}: choose among {', '.join(book)}")
    if a.list:
        for m in (m for w in wanted for m in sample(mutants_of(book[w]), a.limit, a.seed)): print(f"{m['id']} {m['file']} {m['cell']} {m['kind']}\n  - {m['before']}\n  + {m['after']}")
        return
    warm()
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(ROOT, folder)
        for module in wanted:
            start = time.time()
            e = judge(book[module], copy, RESULTS, a.name, a.limit, a.seed, a.lesson_only, a.again)
            print(f"{module}: {e['score']['mutants']} mutants, {e['score']['by_lesson']} % killed by the lesson, {e['score']['by_both']} % by lesson and tests; of {e['score']['silent']} silent ones {e['score']['silent_by_lesson']} and {e['score']['silent_by_both']} %; {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__": main()
