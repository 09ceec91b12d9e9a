"""Measure samples of the runs behind lesson 32's tables once more, with Inception's features in place of the factor reader's: do both order the runs alike?

python results/inception.py            all runs of seed 0 that have a network in runs/ and are not in inception.json yet
python results/inception.py pioneer    this run, again

Needs FID's weights (lesson 30). Two to four minutes a run on one processor core. Writes inception.json, run after run.
"""
import json, sys
from pathlib import Path

import torch
from baselines import IMAGES, MODEL, PICTURES, RUNS, SIZE
from make import commit

from genae.automodulator import Automodulator
from genae.baselines import train
from genae.core import rng
from genae.datasets import toyfaces
from genae.metrics import compared, described, features_of, inception_features, reader_features, reference_features
from genae.tables import RECIPES

HERE = Path(__file__).resolve().parent
TARGET, SAMPLES, REAL = HERE / "inception.json", 1000, 2000


def network(name, folder):
    "Of a run, as it was measured."
    if name in RECIPES: return Automodulator.from_pretrained(folder / name / "model.safetensors")
    kind, settings = RUNS[name]
    return train(kind, toyfaces(PICTURES, SIZE, 0), IMAGES, 0, folder / f"baselines-{name}", quiet=True, **MODEL | settings) # its checkpoint is at the end


def there(name, folder): return (HERE / f"{name}.json").exists() and any((folder / n).exists() for n in (name, f"baselines-{name}"))


def main(names):
    runs, real = HERE.parent / "runs", toyfaces(REAL, SIZE, 1)
    known = json.loads(TARGET.read_text()) if TARGET.exists() else dict(runs={})
    for name in names or [n for n in [*RECIPES, *RUNS] if there(n, runs) and n not in known["runs"]]:
        model, row = network(name, runs), {}
        drawn = torch.cat([model.sample(50, g) for g in [rng(0)] for _ in range(SAMPLES // 50)])
        for extractor in (inception_features(), reader_features(SIZE)):
            reference = reference_features(real, extractor, runs / "features")
            found = compared(reference, features_of(drawn.split(50), extractor, SAMPLES), extractor, reference=described(real))
            row[extractor.name] = {k: float(m) for k, m in found.items()}
            known.setdefault("protocols", {})[extractor.name] = found["frechet"].protocol
        known["runs"][name] = row
        known["commit"] = commit()
        TARGET.write_text(json.dumps(known, indent=1) + "\n")
        print(name, json.dumps(row), flush=True)


if __name__ == "__main__": main(sys.argv[1:])
