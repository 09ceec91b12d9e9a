"Sphinx configuration of the website. `make docs` builds it from docs/nb, which docs/prep.py writes."
import inspect
import sys
from configparser import ConfigParser
from pathlib import Path

from fastcore.docments import docments

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
settings = ConfigParser(delimiters=["="])
settings.read(HERE.parent / "settings.ini")
settings = settings["DEFAULT"]

project, author, copyright, release = settings["title"], settings["author"], settings["copyright"], settings["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "nb/_*"] # the latter are included by other pages
html_theme = "sphinx_book_theme"
html_theme_options = dict(repository_url=settings["git_url"], use_repository_button=True, show_navbar_depth=1, show_toc_level=2)
html_title = settings["title"]
html_static_path, html_css_files = ["_static"], ["genae.css"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off" # the outputs are those that the notebooks store, and `make test` has proved the notebooks
nb_merge_streams = True
nb_render_markdown_format = "myst" # tables and formulas that a cell prints are tables and formulas
if (HERE / "_static/mathjax/tex-svg.js").exists(): mathjax_path = "mathjax/tex-svg.js" # otherwise from the network


def describe(app, what, name, obj, options, lines):
    "Comments beside parameters become their descriptions."
    if what not in ("function", "method", "class"): return
    try: comments = docments(obj, returns=True)
    except (OSError, TypeError, ValueError): return
    fields = [f":param {p.replace('_', chr(92) + '_')}: {c}" for p, c in comments.items() if c and p not in ("self", "return")] # with_ alone would be a link
    if what != "class" and comments.get("return"): fields.append(f":returns: {comments['return']}")
    if fields: lines += ["", *(f.replace("\n", " ").replace("*", r"\*").replace("`", "``").replace("|", r"\|") for f in fields)]


def setup(app): app.connect("autodoc-process-docstring", describe)
