"""Write docs/nb: the notebooks as the website takes them, the tables of contents, the floors of the house, the runs and their pictures, all equations, and what the teacher's guide counts.

nbdev's directives become cell tags, exported code stays in sight, and `name` in prose links to the reference where genae exports it."""
import ast
import json
import re
import runpy
import shutil
from pathlib import Path

import equations
import nbformat

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"": "Start", "0": "Foundations", "1": "The automodulator", "2": "Dropout ciphering", "3": "Evidence", "4": "The studio", "9": "Back matter"}
TAGS = {"hide": "remove-cell", "hide_input": "remove-input", "hide_output": "remove-output", "code-fold": "hide-input"}


def sources(root): return sorted(p for p in (Path(root) / "nbs").glob("*.ipynb") if not p.name.startswith("_"))
def part(name): return name[0] if name[0].isdigit() else ""


def exported(root):
    "name -> dotted path of what the package exports, methods left out."
    symbols = runpy.run_path(str(Path(root) / "genae" / "_modidx.py"))["d"]["syms"]
    return {path.rsplit(".", 1)[1]: path for names in symbols.values() for path in names if path.count(".") == 2}


def strip_directives(source):
    "A cell's code without its `#|` lines, and those as word -> rest."
    lines, found = source.splitlines(), {}
    while lines and (m := re.match(r"\s*#\s*\|\s*([\w-]+):?\s*(.*)", lines[0])):
        found[m[1]] = m[2]
        lines.pop(0)
    return "\n".join(lines).strip("\n"), found


def link_names(text, symbols):
    def link(m): return f"{{py:obj}}`{m[1]} <{symbols[m[1]]}>`" if m[1] in symbols else m[0]
    return "".join(p if p.startswith("```") else re.sub(r"(?<![`\[])`(\w+)(?:\(\))?`(?!`)", link, p) for p in re.split(r"(```.*?```)", text, flags=re.S))


def label_equations(text):
    "Display equations stand alone, their anchors become MyST's labels, and links lead to these."
    text = re.sub(r"(<details><summary>.*?</summary>)\s*(.*?)\s*</details>", r"\1\n\n\2\n\n</details>\n", text, flags=re.S) # what unfolds is Markdown, too
    text = re.sub(r"\s*(\$\$.*?\$\$)\s*", r"\n\n\1\n\n", text, flags=re.S)
    text = re.sub(r'<a id="(eq-[\w-]+)"></a>\s*(?=\$\$)', r"\n\n(\1)=\n", text)
    return link_equations(text).strip()


def link_equations(text): return re.sub(r"\]\([^)#\s]*(#eq-[\w-]+)\)", r"](\1)", text)


def cards(text):
    "A table that narrow screens show entry by entry: that of the equations, and those of the glossary."
    return re.sub(r"^(\| (equation|term) \|.*(?:\n\|.*)+)", r":::{container} cards \2s\n\1\n:::", text, flags=re.M)


def imports_alone(source):
    "What a reader folds away."
    return bool(body := ast.parse(source).body) and all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body)


def measured(root):
    "What docs/lesson_seconds.py has written."
    times = Path(root) / "results" / "lesson_seconds.json"
    return json.loads(times.read_text()) if times.exists() else dict(seconds={})


def takes(text, seconds):
    "Beside what a lesson needs and gives: what it takes, if that was measured."
    if not seconds or "**Needs**" not in text: return text
    return f"{text} **Takes** about {seconds:.0f} seconds of one core ([how that was measured](../teachers_guide.md))."


def page(nb, symbols, seconds=None):
    "One notebook as a page."
    kept = []
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source, found = strip_directives(cell.source)
            if "default_exp" in found or "nbdev_export(" in cell.source: continue
            folded = imports_alone(cell.source) or found.get("exercise") in ("key", "wrong") # a reader thinks first
            tags = {TAGS[d] for d in found if d in TAGS} | ({"hide-input"} if folded else set())
            cell.metadata = dict(tags=sorted(tags))
            for o in cell.outputs:
                if "text/markdown" in o.get("data", {}): o.data["text/markdown"] = cards(link_equations(o.data["text/markdown"]))
        else: cell.source = takes(link_names(cards(label_equations(cell.source)), symbols), seconds)
        kept.append(cell)
    nb.cells = kept
    return nb


def toctrees(names):
    "One table of contents for each part that has notebooks."
    for key, title in PARTS.items():
        mine = [n for n in names if part(n) == key]
        if mine: yield "\n".join(["```{toctree}", f":caption: {title}", ":maxdepth: 1", "", *(f"nb/{n}" for n in mine), "```", ""])
    yield "\n".join(["```{toctree}", ":caption: Beside the lessons", ":maxdepth: 1", "", "nb/api", "field", "equations", "results", "house", "teachers_guide", "```", ""])


def reference(root):
    modules = [p.stem for p in sorted((Path(root) / "genae").glob("*.py")) if not p.name.startswith("_")]
    taught = taught_in(root)
    yield "# Reference\n\nThe package `genae`, module by module. Each is derived in the lesson that it names.\n"
    for name in sorted(modules, key=lambda m: taught.get(m, "~")):
        yield f"## genae.{name}\n\n" + (f"From [{taught[name]}]({taught[name]}.ipynb).\n\n" if name in taught else "")
        yield f"```{{eval-rst}}\n.. automodule:: genae.{name}\n   :members:\n```\n"


HEADLINES = { # of a column -> places in a run's numbers
    "L1": [("l1",), ("known", "l1")], "LPIPS": [("lpips_alex_at_64",), ("known", "lpips_alex_at_64")], "small": [("reconstruction",)],
    "Frechet": [("frechet", "samples"), ("samples frechet",)], "mixed": [("mixtures frechet",)], "path": [("path length",)]}


def results(root, pictures):
    "Every run of results/ as a row, and the picture that it left; pictures are copied to a folder."
    pictures.mkdir(parents=True, exist_ok=True)
    yield f"| run | set | seen | min | {' | '.join(HEADLINES)} |\n|---|---|---|---|" + "---|" * len(HEADLINES)
    runs = {p.stem: json.loads(p.read_text()) for p in (Path(root) / "results").glob("*.json")}
    names, shown = sorted((n for n in runs if "numbers" in runs[n]), key=lambda n: n.partition("-seed")), []
    for name in names:
        run, cells = runs[name], []
        for places in HEADLINES.values():
            value = None
            for place in places:
                found = run["numbers"]
                for key in place: found = found.get(key) if isinstance(found, dict) else None
                value = found if value is None else value
            cells.append("" if value is None else f"{value:.3g}")
        yield f"| {name} | {run['data']}, {run['num_images']:,} | {run['images_seen']:,} | {run['minutes']:.0f} | {' | '.join(cells)} |"
        if (picture := Path(root) / "results" / f"{name}.png").exists():
            shutil.copy(picture, pictures)
            shown.append(f"**{name}**\n\n![faces of the run {name}](nb/{pictures.name}/{name}.png)\n")
    yield "\n## Pictures\n\n" + "\n".join(shown)


def taught_in(root): return {m[1]: p.stem for p in sources(root) if (m := re.search(r"#\|\s*default_exp (\w+)", p.read_text()))}


def house(root):
    "The floors, the highest first: each module with the lesson that derives it, what it says of itself, and what it imports."
    rules, taught = runpy.run_path(str(Path(root) / "tests" / "house.py")), taught_in(root)
    yield "| floor | module | lesson | what it is | imports |\n|---|---|---|---|---|"
    for level, floor in reversed([*enumerate(rules["FLOORS"])]):
        for name in floor:
            if not (path := Path(root) / "genae" / f"{name}.py").exists(): continue # its lesson is still to come
            tree = ast.parse(path.read_text())
            needs = ", ".join(m for m in sorted(rules["of_genae"](tree)) if m != "core") or "-"
            yield f"| {level} | {name} | [{taught[name][:2]}](nb/{taught[name]}.ipynb) | {ast.get_docstring(tree)} | {needs} |"
    yield "\n`core` serves every module and is not named in the last column."


def counted(root):
    "The lessons as a table, and the questions that they ask: counted, so that the guide stays true."
    times, rows, asked = measured(root), [], []
    for path in sources(root):
        if not part(path.stem): continue
        text = [c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown"]
        title = re.search(r"^# (.*)", "\n".join(text), re.M)[1]
        questions = [re.sub(r"\]\((\w+\.ipynb)", r"](nb/\1", q.strip()) for t in text for q in re.findall(r"\*\*Predict:\*\*\s*(.*?)(?:\n\n|$)", t, re.S)]
        equations = sum(t.count('<a id="eq-') for t in text)
        seconds = times["seconds"].get(path.stem, "")
        rows.append(f"| [{title}](nb/{path.name}) | {equations} | {len(questions)} | {seconds} |")
        if questions: asked.append("\n".join([f"**{title}**\n", *(f"- {q}" for q in questions), ""]))
    head = "| lesson | equations | predictions | seconds to run |\n|---|---|---|---|\n"
    note = f"\nSeconds: {times['machine']}.\n" if "machine" in times else ""
    return head + "\n".join(rows) + "\n" + note, "\n".join(asked)


def main(root=ROOT, out=None):
    out = Path(out or Path(root) / "docs" / "nb")
    if out.exists(): shutil.rmtree(out)
    out.mkdir(parents=True)
    symbols, seconds = exported(root), measured(root)["seconds"]
    for path in sources(root): nbformat.write(page(nbformat.read(path, 4), symbols, seconds.get(path.stem)), out / path.name)
    names = sorted((p.stem for p in sources(root)), key=lambda n: (part(n), n))
    (out / "_contents.md").write_text("\n".join(toctrees(names)))
    (out / "api.md").write_text("\n".join(reference(root)))
    (out / "_house.md").write_text("\n".join(house(root)) + "\n")
    (out / "_equations.md").write_text(cards("\n".join(equations.page(root))))
    (out / "_results.md").write_text("\n".join(results(root, out / "results")) + "\n")
    lessons, questions = counted(root)
    (out / "_lessons.md").write_text(lessons)
    (out / "_questions.md").write_text(questions)


if __name__ == "__main__": main()
