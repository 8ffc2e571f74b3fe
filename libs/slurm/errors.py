"""Errors that the batch queue adds to the tree: what matters for an effect is whether anything may have left."""

from libs.runtime.errors import Overloaded, Refused, Unreachable


class AnswerLost(Unreachable):
    """The request may have left, and no whole answer came back. `Unreachable` itself says that nothing left."""


class FacilityAway(Overloaded):
    """Nothing was sent, since the facility itself says that the machine is unavailable."""


class NotFound(Refused):
    """HTTP 404, or no such file: the other side knows no such thing (any more)."""
