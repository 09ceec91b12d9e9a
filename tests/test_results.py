"results/: the command can be loaded, and what it wrote before names things as the package does now."
import json
import runpy
from dataclasses import fields

import pytest
from house import ROOT

from genae import train_automodulator, train_deciphering

MAKE = runpy.run_path(str(ROOT / "results" / "make.py"), run_name="make")
RUNS = sorted(p.stem for p in (ROOT / "results").glob("*.json") if "numbers" in json.loads(p.read_text()))


@pytest.mark.parametrize("name", RUNS)
def test_a_run_speaks_the_package_s_names(name):
    about = json.loads((ROOT / "results" / f"{name}.json").read_text())
    recipe = train_deciphering.Recipe if name in MAKE["CIPHERS"] else train_automodulator.Recipe
    assert name in MAKE["RUNS"] | MAKE["CIPHERS"] | MAKE["COPIES"], "a result of a run that make.py does not know"
    assert about["num_images"] > 0 and about["images_seen"] >= 0
    assert set(about["recipe"] or {}) <= {f.name for f in fields(recipe)}
