"""README.md from nbs/index.ipynb: python docs/make_readme.py

Directive lines and hidden cells go, pictures are written to docs/img, and links lead from the folder of the repository."""
import re
from pathlib import Path

from nbconvert import MarkdownExporter
from nbconvert.preprocessors import Preprocessor
from prep import strip_directives
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
PICTURES = "docs/img/readme" # folder of the pictures and how their names begin
HIDDEN = {"hide", "default_exp"}
SHOWN = ["image/svg+xml", "image/png", "text/markdown", "text/latex", "text/plain"] # of an output, the first kind that it has


class Reader(Preprocessor):
    "What a reader of the README sees of a notebook."
    def preprocess(self, nb, resources):
        nb.metadata["language_info"] = {"name": "python"}
        kept = []
        for cell in nb.cells:
            if cell.cell_type == "markdown": # links lead from the folder above
                cell.source = re.sub(r"\]\((?!\w+:|[#/])([^)\s]+)\)", rf"]({resources['folder']}/\1)", cell.source)
            if cell.cell_type == "code":
                cell.source, found = strip_directives(cell.source)
                if HIDDEN & found.keys() or "nbdev_export(" in cell.source: continue
                if "hide_input" in found: cell.metadata["transient"] = {"remove_source": True}
                if "hide_output" in found: cell.outputs = []
                for o in cell.outputs:
                    kinds = o.get("data", {})
                    if shown := [kind for kind in SHOWN if kind in kinds]: o.data = {shown[0]: kinds[shown[0]]}
            kept.append(cell)
        nb.cells = kept
        return nb, resources


def convert(
    notebook, # path
): # text, and {path: bytes}
    "A notebook as Markdown and its pictures, both as seen from the folder of the README."
    exporter = MarkdownExporter(config=Config(
        ExtractOutputPreprocessor=dict(output_filename_template=PICTURES + "_{cell_index}_{index}{extension}"),
        NbConvertBase=dict(display_data_priority=SHOWN)))
    exporter.register_preprocessor(Reader, enabled=True)
    exporter._preprocessors.insert(0, exporter._preprocessors.pop()) # first, so that pictures are numbered without hidden cells
    text, found = exporter.from_filename(str(notebook), resources=dict(folder=Path(notebook).resolve().parent.name))
    text = re.sub(r"[ \t]+$", "", text, flags=re.M).replace("![png](", "![what the cell above shows](")
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", found["outputs"]


def write(root=ROOT):
    text, pictures = convert(Path(root) / "nbs" / "index.ipynb")
    for old in Path(root).glob(PICTURES + "_*"): old.unlink()
    for name, content in pictures.items():
        (Path(root) / name).parent.mkdir(parents=True, exist_ok=True)
        (Path(root) / name).write_bytes(content)
    (Path(root) / "README.md").write_text(text)


if __name__ == "__main__": write()
