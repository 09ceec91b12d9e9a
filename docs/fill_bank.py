"Gather the exercises of all lessons into genae/exercises.json: python docs/fill_bank.py"
from pathlib import Path

from genae.exercises import fill_bank

ROOT = Path(__file__).resolve().parent.parent
fill_bank(ROOT / "nbs", ROOT / "genae" / "exercises.json")
