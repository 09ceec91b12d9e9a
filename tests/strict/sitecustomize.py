"""Put this folder on PYTHONPATH and every Python process is strict: it has no network, and a warning from genae is an error.

Each process that starts, and each attempt to reach the network, is a line in the file that GENAE_OFFLINE names."""
import json
import os
import sys
import warnings

NETWORK = {"socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
UNIX = 1 # socket.AF_UNIX, by which the processes of one machine talk


def note(**line):
    if path := os.environ.get("GENAE_OFFLINE"):
        with open(path, "a") as f: f.write(json.dumps(line) + "\n")


def refuse(event, args):
    if event not in NETWORK or getattr(args[0], "family", None) == UNIX: return
    note(refused=event, to=str(args[1:] if hasattr(args[0], "family") else args))
    raise OSError(f"lessons run offline: {event} was refused")


sys.addaudithook(refuse) # an audit hook cannot be taken out again, and sees C code too
warnings.filterwarnings("error", module=r"genae\b")
note(process=sys.orig_argv)
