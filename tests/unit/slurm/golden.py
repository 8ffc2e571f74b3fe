"""The recorded rows as the Superfacility API gives them: headers in lower case as keys, the last of equal ones wins."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "vectors" / "slurm"


def rows(name: str) -> list[dict[str, str]]:
    header, *lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    keys = [key.lower() for key in header.split("|")]
    return [dict(zip(keys, line.split("|"), strict=False)) for line in lines]
