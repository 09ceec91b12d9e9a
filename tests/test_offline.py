"Lessons reach no network: every process of the run was blocked, and none tried."
import socket
import subprocess
import sys
import threading

import pytest
from conftest import Run, strict
from scratch import scratch_book

CONNECT = "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5).close()"


@pytest.fixture
def port():
    "A server on this machine that accepts whoever comes."
    with socket.create_server(("127.0.0.1", 0)) as server:
        def accept():
            while True:
                try: server.accept()[0].close()
                except OSError: return
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]


def python(code, env): return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)


def test_without_the_block_a_process_connects(port):
    assert python(CONNECT.format(port=port), {}).returncode == 0


@pytest.mark.parametrize("code", [
    CONNECT,
    "import _socket; _socket.socket(2, 1).connect(('127.0.0.1', {port}))",
    "import socket; socket.socket(2, 2).sendto(b'hello', ('127.0.0.1', {port}))",
    "import socket; socket.getaddrinfo('localhost', {port})",
    "import urllib.request; urllib.request.urlopen('http://localhost:{port}')",
    "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"127.0.0.1\", {port}))'], check=True)"])
def test_with_the_block_it_does_not(port, code, tmp_path):
    r = python(code.format(port=port), strict(tmp_path))
    assert r.returncode and "lessons run offline" in r.stderr, r.stderr
    assert '"refused"' in (tmp_path / "offline.jsonl").read_text()


def test_processes_of_one_machine_still_talk(tmp_path):
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({str(tmp_path / 's')!r}); s.listen(); socket.socket(socket.AF_UNIX).connect(s.getsockname())"
    r = python(code, strict(tmp_path))
    assert r.returncode == 0, r.stderr
    assert '"refused"' not in (tmp_path / "offline.jsonl").read_text()


def test_an_attempt_is_noted_even_if_the_lesson_swallows_it(tmp_path):
    cell = "try: import socket; socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass"
    run = Run(scratch_book(tmp_path / "book", **{"00_curious": cell}), tmp_path)
    assert [passed for passed, _, _ in run.all().values()] == [True]
    assert refusals(run)


def refusals(run): return [line for line in run.lines("GENAE_OFFLINE") if "refused" in line]


def test_lessons_ran_offline(book):
    log = book.lines("GENAE_OFFLINE")
    runs = [line for line in log if any("nbdev_test" in a for a in line.get("process", []))]
    assert runs, "the run of the lessons was not blocked: start it with tests/strict on PYTHONPATH, as `make test` does"
    assert not refusals(book), "a lesson tried to reach the network"
