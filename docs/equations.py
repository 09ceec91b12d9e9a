"""Every numbered equation of the book: where it stands, what computes it, how it was checked, and which exercises use it.

All of it is read from the notebooks and the package; nothing is typed here but how short labels are spelled out."""
import ast
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SPELLED = { # a whole label, or else a word of one
    "d-x": "distance of pictures", "d-cos": "distance of codes", "phi": "the encoder", "fake": "generated pictures", "z-ab": "code of a mixture",
    "l-phi": "loss of the encoder", "l-phi-public": "loss of the encoder, public code", "l-theta": "loss of the decoder",
    "l-theta-1": "loss of the decoder, nothing mixed", "l-j": "layer disentanglement loss", "l-inv": "invariance loss",
    "l-inv-8": "invariance loss, of the reconstruction", "l-inv-mirror": "invariance loss of mirrored pairs", "l-nll": "loss as a log-likelihood",
    "r2": "R squared", "sigma": "spectral norm", "he": "He initialisation", "eps": "epsilon", "1d": "in one dimension", "zscore": "z-score",
    "rho": "robust loss", "l": "loss,", "reparameterisation": "reparameterisation"} | {w.lower(): w for w in (
    "KL AGE VAE WAE GLO RAE ELBO EMA KID PPL LPIPS MMD AdaIN SGD Adam Eckart Young Gaussian Hoyer Wishart Floyd Frechet Hoyer L2").split()}
OURS, PRINTED = r"\d+\.\d+", r"\d+(?!\.?\d)" # our numbers have a point, those of papers have none
PAPERS = {"patterns": "Patterns", "barron": "Barron"} # whose equation it is, else that of Deep Automodulators


# ---------------------------------------------------------------- numbers in a text

def numbers(text, kind):
    "(the clause before them, [numbers]) of each 'eq. 1', 'equations 1, 2 and 4 to 6' of a text."
    for m in re.finditer(rf"\b[Ee]q(?:s?\.|uations?) ({kind}(?:(?:, and |, | and | to ){kind})*)", text):
        found = re.findall(r"[\d.]+", m[1])
        for a, b in re.findall(r"([\d.]+) to ([\d.]+)", m[1]): # and what lies between
            lesson, point, first = a.rpartition(".")
            found += [f"{lesson}{point}{k}" for k in range(int(first) + 1, int(b.rpartition(".")[2]))]
        yield re.split(r"[;(]", text[:m.start()])[-1][-60:].lower(), found


def cited(text, bare=True):
    "Our equations that a text names, as in eq. 4.2; bare, (4.2) will do."
    return {n for _, found in numbers(text, OURS) for n in found} | (set(re.findall(rf"\(({OURS})\)", text)) if bare else set())


def printed(text):
    "The papers' equations that a text names, as (whose, number)."
    for clause, found in numbers(text, PRINTED):
        whose = next((PAPERS[p] for p in PAPERS if p in clause), "")
        yield from ((whose, int(n)) for n in found)


# ---------------------------------------------------------------- the book

def house(root): return runpy.run_path(str(Path(root) / "tests" / "house.py"))


def recapped(nb):
    "label -> (checks, second roads, worst error / tolerance), from the table that a lesson has stored."
    texts = ["".join(o.data["text/plain"]) for c in nb.code if c.source.strip() == "recap()" for o in c.outputs if "text/plain" in o.get("data", {})]
    rows = [line.split("  ") for text in texts for line in text.splitlines() if line.startswith("eq-")]
    return {label: (int(count), roads.split(", "), float(worst)) for label, count, roads, worst in rows}


def documented(root, rules):
    "(dotted path, docstring) of what the package exports, with its methods, patched ones too."
    for path in rules["modules"](root):
        for f in ast.parse(path.read_text()).body:
            if not isinstance(f, (ast.FunctionDef, ast.ClassDef)) or f.name.startswith("_"): continue
            first = f.args.args[0] if isinstance(f, ast.FunctionDef) and f.args.args else None
            owner = ast.unparse(first.annotation) + "." if first and first.arg == "self" and first.annotation else ""
            yield f"genae.{path.stem}.{owner}{f.name}", ast.get_docstring(f) or ""
            for g in f.body * isinstance(f, ast.ClassDef):
                if isinstance(g, ast.FunctionDef): yield f"genae.{path.stem}.{f.name}.{g.name}", ast.get_docstring(g) or ""


def borrowed(nb, symbols, rules):
    "name -> dotted path of what a lesson has from the package, imported or exported by itself, and never binds to something else."
    mine = lambda module: {path.rsplit(".", 1)[1]: path for path in symbols.get(module, ()) if path.count(".") == 2}
    have, bound = mine(f"genae.{nb.module}"), set()
    for c in nb.code:
        for n in ast.walk(rules["tree"](c)):
            if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("genae."):
                have |= {k: path for k, path in mine(n.module).items() if {"*", k} & {a.name for a in n.names}}
            elif "export" not in rules["directives"](c):
                if isinstance(n, (ast.FunctionDef, ast.ClassDef)): bound.add(n.name)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store): bound.add(n.id)
    return {k: path for k, path in have.items() if k not in bound and not path.startswith("genae.core.") and not k.startswith("_")}


def name_of(label):
    "A label in words."
    short = label.removeprefix("eq-")
    said = SPELLED.get(short) or " ".join(SPELLED.get(w, w) for w in short.split("-"))
    return said[0].upper() + said[1:]


def proofs(nb, rules):
    "label -> names in the code cells that check it."
    found = {}
    for c in nb.code:
        nodes = [*ast.walk(rules["tree"](c))]
        names = {n.id for n in nodes if isinstance(n, ast.Name)}
        for n in nodes:
            if rules["call"](n) == "check" and n.args and isinstance(n.args[0], ast.Constant): found.setdefault(n.args[0].value, set()).update(names)
    return found


def read(root=ROOT):
    "A dict for each equation, in the order of the book."
    rules = house(root)
    lessons = rules["notebooks"](root)
    symbols = runpy.run_path(str(Path(root) / "genae" / "_modidx.py"))["d"]["syms"]
    docs = [(path, cited(doc, bare=False), [*printed(doc)]) for path, doc in documented(root, rules)]
    exercises = [(nb.name, number, cited(text) | set(re.findall(r"#(eq-[\w-]+)", text))) for nb in lessons for c in nb.prose
                 if c.source.startswith("## Exercises") for number, text in re.findall(r"^(\d+)\. (.*)$", c.source, re.M)]
    rows = []
    for nb in lessons:
        tags, recap, have, tried, heading = dict(rules["equations"](nb)), recapped(nb), borrowed(nb, symbols, rules), proofs(nb, rules), ""
        for cell in nb.prose:
            for line in cell.source.splitlines():
                if m := re.match(r"#+ (.*)", line): heading = m[1]
                if not (m := re.match(r'<a id="(eq-[\w-]+)">', line)): continue
                label, tag = m[1], tags[m[1]]
                if label not in recap: raise ValueError(f"{nb.name} has stored no check of {label}: run it from top to bottom and save")
                mine = sorted(((path, said) for path, named, said in docs if tag in named), key=lambda d: d[0].split(".")[1] != nb.module)
                checks, roads, worst = recap[label]
                rows.append(dict(
                    label=label, tag=tag, lesson=nb.name, title=re.match(r"# (.*)", nb.prose[0].source)[1], name=name_of(label), heading=heading,
                    tex=re.search(rf'"{label}"></a>\s*\n\$\$(.*?)\\tag', cell.source, re.S)[1].strip(), checks=checks, roads=roads, worst=worst,
                    paper=sorted(set(printed(cell.source)) or {p for _, said in mine for p in said}), code=[path for path, _ in mine],
                    tried=[] if mine else sorted(have[k] for k in tried.get(label, set()) & have.keys()),
                    exercises=[(b, number) for b, number, named in exercises if {tag, label} & named]))
    return rows


def by_lesson(rows):
    "(lesson, its rows)"
    for lesson in dict.fromkeys(r["lesson"] for r in rows): yield lesson, [r for r in rows if r["lesson"] == lesson]


# ---------------------------------------------------------------- tables

def symbol(path): return f"`{path.split('.', 2)[2]}`"
def reference(path): return f"{{py:obj}}`{path.split('.', 2)[2]} <{path}>`" # a link on the website


def table(rows, folder="", code=symbol):
    "Some of the rows as Markdown."
    yield "| equation | in the papers | code | checks | error |\n|---|---|---|---|---|"
    for r in rows:
        whose = dict.fromkeys(p for p, _ in r["paper"])
        paper = "; ".join(f"{w} {', '.join(str(n) for p, n in r['paper'] if p == w)}".strip() for w in whose)
        codes = ", ".join(map(code, r["code"])) or (f"with {', '.join(map(code, r['tried']))}" if r["tried"] else "")
        asked = "".join(f", [exercise {n if b == r['lesson'] else f'{n} of {b[:2]}'}]({folder}{b}.ipynb)" for b, n in r["exercises"])
        error = f"{r['worst']:.0e}" if r["worst"] else "0"
        yield (f"| [{r['tag']}]({folder}{r['lesson']}.ipynb#{r['label']}) **{r['name']}**, *{r['heading']}*{asked} | {paper} | {codes} "
               f"| {r['checks']}: {', '.join(r['roads'])} | {error} |")


def page(root=ROOT, folder="nb/"):
    "The whole book for the website, lesson by lesson."
    rows = read(root)
    yield f"The book has {len(rows)} numbered equations, and the runs that it stores have made {sum(r['checks'] for r in rows):,} checks of them.\n"
    for lesson, mine in by_lesson(rows):
        yield f"## {mine[0]['title']}\n\n[The lesson]({folder}{lesson}.ipynb)\n"
        yield re.sub(r"\]\([^)#\s]*(#eq-[\w-]+)\)", r"](\1)", "\n".join(table(mine, folder, reference))) + "\n" # where the site has them
