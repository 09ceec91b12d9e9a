"""One run of every lesson, offline, shared by all tests.

`make test` makes that run with `nbdev_test` before pytest starts and leaves its output, ledger and process log in the files
named by GENAE_LOG, GENAE_LEDGER and GENAE_OFFLINE. Under plain `pytest` each notebook is run when a test first asks for it."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from house import ROOT, notebooks

for number, usual in {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}.items():
    if signal.getsignal(number) == signal.SIG_IGN: signal.signal(number, usual) # as in the background, or under nohup: whoever waits for one would hang

STRICT = ROOT / "tests" / "strict"
LIMIT = 300 # seconds for one notebook, however slow the machine
REPORT = [] # lines for the end of the run


def tool(name, *arguments, cwd=ROOT, env=(), timeout=LIMIT):
    "Run a console script of this environment in a process of its own."
    clean = {k: v for k, v in os.environ.items() if k != "IN_TEST"} # under IN_TEST nbdev_export silently does nothing
    return subprocess.run([Path(sys.executable).with_name(name), *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          env=clean | dict(env), timeout=timeout)


def strict(folder):
    "The environment of a process without network whose ledger and log are in a folder."
    return dict(PYTHONPATH=str(STRICT), MPLBACKEND="agg", OMP_NUM_THREADS="1",
                GENAE_LEDGER=str(Path(folder) / "ledger.jsonl"), GENAE_OFFLINE=str(Path(folder) / "offline.jsonl"))


class Run:
    "Runs notebooks of a book on demand, each once."
    def __init__(self, root, folder):
        self.root, self.env, self.done = root, strict(folder), {}

    def lesson(self, path): # (passed, seconds, what was printed)
        if path not in self.done:
            start = time.time()
            try: r = tool("nbdev_test", "--path", path, "--n_workers", 0, cwd=self.root, env=self.env)
            except subprocess.TimeoutExpired: self.done[path] = False, LIMIT, f"no end within {LIMIT} s"
            else: # 'No files were eligible for testing' exits with 0 as well
                self.done[path] = r.returncode == 0 and "Success." in r.stdout, time.time() - start, r.stdout + r.stderr
        return self.done[path]

    def all(self): return {nb.name: self.lesson(nb.path) for nb in notebooks(self.root)}
    def lines(self, kind): # of the ledger or the log
        self.all()
        path = Path(self.env[kind])
        return [json.loads(l) for l in path.read_text().splitlines()] if path.exists() else []


class MadeRun(Run):
    "The run that `make test` has made."
    def __init__(self, root, log):
        self.root, self.env, self.log = root, os.environ, Path(log).read_text()
        self.seconds = {name: int(s) for name, s in re.findall(r"^(\S+)\.ipynb: (\d+) secs$", self.log, re.M)}
        failed = self.log.partition("nbdev Tests Failed On The Following Notebooks:")[2]
        self.failed, self.ended = set(re.findall(r"^\s*(\S+)\.ipynb$", failed, re.M)), "Success." in self.log or bool(failed)

    def lesson(self, path):
        completed = f"- Completed {path}" in self.log
        said = re.search(rf"^\w+ in {re.escape(str(path))}:$.*?(?=^- Completed|\Z)", self.log, re.M | re.S)
        return self.ended and completed and path.stem not in self.failed, self.seconds.get(path.stem, 0), said[0] if said else self.log[-2_000:]


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    if log := os.environ.get("GENAE_LOG"): return MadeRun(ROOT, log)
    return Run(ROOT, tmp_path_factory.mktemp("run"))


@pytest.fixture
def report(): return REPORT.append


@pytest.fixture
def double():
    "Everything that a test makes is in double precision."
    import torch
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pytest_terminal_summary(terminalreporter):
    if REPORT: terminalreporter.section("measured")
    for line in REPORT: terminalreporter.write_line(line)
