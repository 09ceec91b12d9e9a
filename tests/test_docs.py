"The website builds from the stored outputs without a warning, and its formulas and links are formulas and links."
import json
import re
import shutil
import sys

import pytest
from conftest import tool
from house import ROOT, equations, modules, notebooks

sys.path.insert(0, str(ROOT / "docs"))
import prep


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    for name in ("docs", "nbs", "genae", "results"):
        if (ROOT / name).exists(): shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("nb", "_build", "mathjax", "__pycache__", ".*"))
    shutil.copy(ROOT / "settings.ini", root)
    (root / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "house.py", root / "tests")
    prep.main(root)
    built = tool("sphinx-build", "-q", "-b", "html", root / "docs", root / "html", cwd=root)
    assert built.returncode == 0, built.stderr
    (root / "warnings").write_text(built.stderr)
    return root / "html"


def test_no_warning(site): assert not (said := (site.parent / "warnings").read_text()), said


def test_every_notebook_has_a_page(site):
    for nb in notebooks(): assert (site / "nb" / f"{nb.name}.html").exists(), nb.name


def test_formulas_are_formulas(site):
    for nb in notebooks():
        html = (site / "nb" / f"{nb.name}.html").read_text()
        prose = re.sub(r"<(pre|code|script|title)\b.*?</\1>|<(?:span|div)[^>]*class=\"math.*?</(?:span|div)>", "", html, flags=re.S)
        assert "$" not in prose, f"{nb.name}: {prose[prose.index('$') - 60:][:120]}"
        assert all(f'id="{label}"' in html for label, _ in equations(nb)), nb.name
        assert len(re.findall(r'<div class="math[^>]*>.*?\\tag\{.*?</div>', html, re.S)) == len(equations(nb)), nb.name


def test_no_directive_is_left(site):
    for nb in notebooks(): assert not re.search(r"^#\s*\|", (site.parent / "docs" / "nb" / f"{nb.name}.ipynb").read_text().replace('"', "\n"), re.M), nb.name


def test_parameters_keep_their_underscores(site):
    html = (site / "nb" / "api.html").read_text()
    assert "<strong>positive</strong>" in html and "<strong>name_or_path</strong>" in html


def test_the_house_is_shown_as_it_stands(site):
    "Every module has a row and a place on a way, and no other name is drawn."
    standing = {p.stem for p in modules(ROOT)}
    html, said = (site / "house.html").read_text(), (ROOT / "docs" / "house.md").read_text()
    drawn = set(re.findall(r"\[(\w+)\]", said)) | set(re.findall(r"`(\w+)`", said))
    assert all(f'<a class="reference internal" href="nb/{nb.name}.html">' in html for nb in notebooks() if nb.module)
    assert drawn <= standing and standing - drawn <= {"core", "files"}, drawn ^ standing


def test_every_run_is_listed(site):
    html, files = (site / "results.html").read_text(), [p for p in (ROOT / "results").glob("*.json") if "numbers" in json.loads(p.read_text())]
    assert len(files) > 30 and all(f"<p>{p.stem}</p>" in html for p in files)
    for p in files: assert not p.with_suffix(".png").exists() or (site / "_images" / f"{p.stem}.png").exists(), p.stem


def test_lessons_say_what_they_take(site):
    "Those that were measured, and no others."
    seconds = prep.measured(ROOT)["seconds"]
    said = {nb.name for nb in notebooks() if "<strong>Takes</strong> about" in (site / "nb" / f"{nb.name}.html").read_text()}
    assert said == set(seconds) & {nb.name for nb in notebooks()} and len(said) > 20


@pytest.mark.parametrize("text, seconds, line", [
    ("**Needs** this.", 4.4, "**Needs** this. **Takes** about 4 seconds of one core ([how that was measured](../teachers_guide.md))."),
    ("**Needs** this.", None, "**Needs** this."), ("No head.", 4.4, "No head.")])
def test_what_a_lesson_takes(text, seconds, line): assert prep.takes(text, seconds) == line


def test_the_field_is_short_and_holds_no_measurement():
    text = (ROOT / "docs" / "field.md").read_text()
    words = re.sub(r"\[\d\d\]|\(nb/[^)]*\)|[lL]esson \d\d|[|*#-]", " ", text)
    assert len(words.split()) <= 500 and not re.search(r"\d", words)
    assert all(f"nb/{n}" in text for n in ("31_baselines", "31_rivals", "33_inversion", "34_two_papers"))


def test_every_equation_is_listed(site):
    "On its page each number is a link to the cell where the equation stands."
    html = (site / "equations.html").read_text()
    for nb in notebooks():
        for label, tag in equations(nb): assert re.search(rf'href="nb/{nb.name}.html#{label}"><span[^>]*>{re.escape(tag)}</span>', html), label


def test_what_a_cell_prints_as_markdown_is_shown_as_such(site):
    html = {name: (site / "nb" / f"{name}.html").read_text() for name in ("04_kl", "90_equations", "91_glossary")}
    assert "<p>eq-kl-floor</p></td>" in html["04_kl"] and not any("|—" in h for h in html.values())
    assert html["90_equations"].count('<div class="cards equations docutils container">') == 2 and 'href="16_cycles.html#eq-l-phi"' in html["90_equations"]
    assert html["91_glossary"].count('<div class="cards terms docutils container">') > 6


@pytest.mark.parametrize("text, page", [
    ('A.\n\n<a id="eq-a"></a>\n$$ a \\tag{1.1} $$\n\nB.', "A.\n\n(eq-a)=\n$$ a \\tag{1.1} $$\n\nB."),
    ("A:\n$$ a $$\nB.", "A:\n\n$$ a $$\n\nB."),
    ("See [1](02_x.ipynb#eq-a), [2](#eq-b), [3](02_x.ipynb).", "See [1](#eq-a), [2](#eq-b), [3](02_x.ipynb).")])
def test_equations_are_labelled(text, page): assert re.sub(r"\n{3,}", "\n\n", prep.label_equations(text)) == page


@pytest.mark.parametrize("text, page", [
    ("`check` and `other`", "{py:obj}`check <genae.core.check>` and `other`"),
    ("`check()`, [`check`](x)", "{py:obj}`check <genae.core.check>`, [`check`](x)"),
    ("```\n`check`\n```", "```\n`check`\n```")])
def test_names_are_linked(text, page): assert prep.link_names(text, {"check": "genae.core.check"}) == page


@pytest.mark.parametrize("source, folded", [("import a\nfrom b import c", True), ("import a\na.b()", False), ("", False)])
def test_imports_are_folded(source, folded): assert prep.imports_alone(source) == folded
