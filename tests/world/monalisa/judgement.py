"""What the genuine receiver would store of a datagram, and what it would throw away. Pure."""

import math
from collections.abc import Iterator
from typing import Any

JAVA_WHITESPACE = "".join(chr(code) for code in range(0x21))


class Refusal(Exception):
    """The genuine receiver throws this datagram away."""


class Reader:
    """XDR items taken one by one from the front of a datagram."""

    def __init__(self, datagram: bytes) -> None:
        self.left = memoryview(datagram)

    def take(self, size: int) -> bytes:
        if size > len(self.left):
            raise Refusal("shorter than it says: older bytes would be read")
        taken, self.left = bytes(self.left[:size]), self.left[size:]
        return taken

    def whole(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def real(self, size: int) -> float:
        # Built from the bits, so that this side shares not even the way of reading with what it judges.
        raw = int.from_bytes(self.take(size), "big")
        exponent_bits, fraction_bits = (11, 52) if size == 8 else (8, 23)
        bias = 2 ** (exponent_bits - 1) - 1
        sign = -1.0 if raw >> (exponent_bits + fraction_bits) else 1.0
        exponent = raw >> fraction_bits & (1 << exponent_bits) - 1
        fraction = raw & (1 << fraction_bits) - 1
        if exponent == (1 << exponent_bits) - 1:
            return math.nan if fraction else sign * math.inf
        if exponent == 0:
            return sign * math.ldexp(fraction, 1 - bias - fraction_bits)
        return sign * math.ldexp(fraction | 1 << fraction_bits, exponent - bias - fraction_bits)

    def string(self) -> str:
        size = self.whole(4)
        if size < 0 or size > 32767:
            raise Refusal("impossible string length")
        text = self.take(size).decode("utf-8", errors="replace")
        self.take(-size % 4)
        return text


def judge(datagram: bytes, password: str | None = None) -> dict[str, Any]:
    """What is stored of a datagram: cluster, node, params, time_s (None: when received), instance, seq. Or Refusal."""
    reader = Reader(datagram)
    first = reader.string()
    instance = seq = None
    version = (0, 0)
    cluster = first
    given = None
    if first.startswith("v:"):
        cut = first.find("p:")
        if cut < 0:
            raise Refusal("header without p:")
        given = first[cut + 2 :]
        version = version_of(first[2:cut])
        if version >= (2, 2):
            instance, seq = reader.whole(4), reader.whole(4)
        cluster = reader.string()
    if password is not None and given != password:
        raise Refusal("password")
    node = reader.string()
    count = reader.whole(4)
    if count < 0:
        raise Refusal("negative number of parameters")
    params = list(parameters(reader, count))
    time_s = reader.whole(4) if version >= (1, 6) and len(reader.left) else 0
    return {
        "cluster": cluster,
        "node": node,
        "params": params,
        "time_s": time_s if time_s > 0 else None,
        "instance": instance,
        "seq": seq,
    }


def version_of(text: str) -> tuple[int, int]:
    """(2, 2) of 2.2.8_j, (2, 17) of 2.17.02-py."""
    digits = text.replace("_", "-").split("-")[0].split(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in digits):
        raise Refusal("version is not numbers")
    return int(digits[0]), int(digits[1]) if digits[1:] else 0


def parameters(reader: Reader, count: int) -> Iterator[tuple[str, str | float]]:
    """Name and value of each parameter that is kept: every number a double, text trimmed, blank text gone."""
    for _ in range(count):
        name = reader.string()
        if name == "":
            return  # the genuine receiver takes this for the end of the list, and what follows for the time
        kind = reader.whole(4)
        if kind == 0:
            text = reader.string().strip(JAVA_WHITESPACE)
            if text:
                yield name, text
        elif kind in (2, 3):
            yield name, float(reader.whole(4 if kind == 2 else 8))
        elif kind in (4, 5):
            yield name, reader.real(4 if kind == 4 else 8)
        else:
            raise Refusal("unsupported type")
