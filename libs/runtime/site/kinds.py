"""Kinds of values in the site file, with their bounds."""

from typing import Annotated

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
JavaInt = Annotated[int, Meta(ge=1, le=(1 << 31) - 1)]
Seconds = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShortName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
Address = Annotated[str, Meta(pattern=r"^\[?[A-Za-z0-9_.:-]+\]?:[0-9]{1,5}$")]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the site file: a key that it does not have stops the start."""
