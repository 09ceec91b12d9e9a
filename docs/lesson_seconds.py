"Run each lesson alone, or those named, and write what it took of one core to results/lesson_seconds.json: python docs/lesson_seconds.py [42_cli]"
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from prep import ROOT, part, sources

NBDEV_TEST = Path(sys.executable).with_name("nbdev_test")
TABLE = ROOT / "results" / "lesson_seconds.json"
seconds = json.loads(TABLE.read_text())["seconds"] if sys.argv[1:] else {}
for path in sources(ROOT):
    if not part(path.stem) or sys.argv[1:] and path.stem not in sys.argv: continue
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([NBDEV_TEST, "--path", path, "--n_workers", "0"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | dict(OMP_NUM_THREADS="1", MPLBACKEND="agg", GENAE_DEVICE="cpu"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds[path.stem] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
    print(path.stem, seconds[path.stem])
machine = f"processor time of one core of {os.cpu_count()} ({platform.machine()}), start of Python included, Python {platform.python_version()}, torch {torch.__version__}"
TABLE.parent.mkdir(exist_ok=True)
TABLE.write_text(json.dumps(dict(date=time.strftime("%Y-%m-%d"), machine=machine, seconds=seconds), indent=1) + "\n")
