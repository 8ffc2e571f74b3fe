"""How Slurm's commands write instants, spans and states, and read what was asked of them."""

from __future__ import annotations

import functools
import getopt
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from tests.world.superfacility.arrays import parse_array
from tests.world.superfacility.commands import Answer
from tests.world.superfacility.model.clock import Clock
from tests.world.superfacility.model.jobs import STATE_CODES

UNIT_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}


class Instants:
    """Writes model times as the wall clock's local time, by SLURM_TIME_FORMAT where given, as Slurm does."""

    def __init__(self, clock: Clock, environment: Mapping[str, str]) -> None:
        self._clock = clock
        form = environment.get("SLURM_TIME_FORMAT", "standard")
        self._form = "%Y-%m-%dT%H:%M:%S" if form == "standard" else form
        self._known: dict[int, str] = {}

    def second(self, model_time: float | None) -> int | None:
        """Return the whole second that an instant is shown as."""
        return None if model_time is None else int(self._clock.shown(model_time))

    def __call__(self, model_time: float | None, *, missing: str) -> str:
        if model_time is None:
            return missing
        seconds = int(self._clock.shown(model_time))
        text = self._known.get(seconds)
        if text is None:
            text = self._known[seconds] = time.strftime(self._form, time.localtime(seconds))
        return text


def read_instant(text: str, now: float) -> float:
    """Read `now-2days`, `today`, `midnight`, unix seconds or an ISO instant in local time; raises ValueError.

    `now` and the answer are the wall clock's unix seconds.
    """
    if match := re.fullmatch(r"now(?:([+-])(\d+)(second|minute|hour|day|week)?s?)?", text):
        sign, number, unit = match.groups()
        return now + (int(f"{sign}{number}") * UNIT_S[unit or "second"] if number else 0)
    if text in ("today", "midnight"):
        return datetime.combine(datetime.fromtimestamp(now).astimezone().date(), datetime.min.time()).timestamp()
    if text.startswith("uts") and text[3:].isdigit():
        return float(text[3:])
    return datetime.fromisoformat(text).timestamp()


def span(seconds: float, *, padded: bool) -> str:
    """Write a span: `1-02:03:04`; `padded` is sacct's manner, else squeue's, which drops leading zeros."""
    return _span(int(seconds), padded)


@functools.lru_cache(maxsize=65_536)
def _span(total: int, padded: bool) -> str:
    days, hours, minutes, rest = total // 86_400, total // 3600 % 24, total // 60 % 60, total % 60
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
    if hours or padded:
        return f"{hours:02}:{minutes:02}:{rest:02}" if padded else f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02}"


def read_states(text: str) -> set[str] | None:
    """Return the states a `-t` or `-s` names, None for a word that is none; `all` is the empty set."""
    codes = {code: name for name, code in STATE_CODES.items()}
    words = [word.upper() for word in text.split(",") if word]
    if "ALL" in words:
        return set()
    if any(word not in codes and word not in STATE_CODES for word in words):
        return None
    return {codes.get(word, word) for word in words}


def read_ids(text: str) -> list[str] | None:
    """Return the ids of `12,12_3,12_[1-3]` one by one; None when one of them is none."""
    ids: list[str] = []
    for word in re.findall(r"[^,\[\]]+(?:\[[^\]]*\])?", text):
        match = re.fullmatch(r"(\d+)(?:_(\d+)|_\[([\d,:%-]+)\])?", word)
        if match is None:
            return None
        try:
            ids += [f"{match[1]}_{index}" for index in parse_array(match[3])[0]] if match[3] else [word]
        except ValueError:
            return None
    return ids


def read_options(
    program: str, words: Sequence[str], short: str, long: Sequence[str]
) -> tuple[dict[str, str], list[str]] | Answer:
    """Read a command line as getopt does; an unknown option is answered with the program's own words."""
    try:
        pairs, rest = getopt.gnu_getopt(list(words), short, list(long))
    except getopt.GetoptError as error:
        dashes = "--" if len(error.opt) > 1 else "-"
        shown = f"unrecognized option '{dashes}{error.opt}'" if dashes == "--" else f"invalid option -- '{error.opt}'"
        return Answer(1, "", f'{program}: {shown}\nTry "{program} --help" for more information\n')
    return dict(pairs), rest


def option(options: Mapping[str, str], *spellings: str) -> str | None:
    """Return the value of the first spelling that was given."""
    return next((options[word] for word in spellings if word in options), None)
