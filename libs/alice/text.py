"""Java's modified UTF-8: NUL is two bytes, and what lies beyond U+FFFF is a pair of surrogates of three bytes each."""

FOUR_BYTE_LEAD = 0xF0


def decode(data: bytes) -> str:
    """Modified UTF-8 to a str; lone surrogates survive, as they do in Java. ValueError when it is something else."""
    if data.isascii():
        return data.decode("ascii")
    if max(data) >= FOUR_BYTE_LEAD:
        raise ValueError("a four-byte sequence")
    units = data.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


def encode(value: str) -> bytes:
    """A str to modified UTF-8; the inverse of `decode`."""
    if value.isascii():
        data = value.encode("ascii")
    else:
        wide = value.encode("utf-16-be", "surrogatepass")
        units = "".join(chr(wide[i] << 8 | wide[i + 1]) for i in range(0, len(wide), 2))
        data = units.encode("utf-8", "surrogatepass")
    return data.replace(b"\0", b"\xc0\x80")
