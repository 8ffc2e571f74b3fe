"""Errors as a server sends them: a ServerException around a ServerException around what was thrown."""

from tests.world.central_services.java_classes import CLASSES, EMPTY_LIST
from tests.world.central_services.java_nodes import Array, Instance, Node, Text, literal

Frame = tuple[str, str, int]

_EXECUTE = ("alien.api.Dispatcher", "execute", 97)
_RETHROW = ("alien.api.Dispatcher", "execute", 100)
_HANDLE = ("alien.api.DispatchSSLServer", "run", 222)
_REPORT = ("alien.api.DispatchSSLServer", "run", 228)


class Thrown(Exception):
    """A Java exception thrown while a request runs, with the frames below the dispatcher."""

    def __init__(self, class_name: str, message: str, *frames: Frame) -> None:
        super().__init__(message)
        self.class_name = class_name
        self.frames = frames


class NotAllowed(Exception):
    """The dispatcher itself refuses the request: one ServerException without a cause."""


def server_exception(error: Thrown | NotAllowed) -> Instance:
    """The object for `Request.exception`."""
    message = Text(str(error))
    if isinstance(error, NotAllowed):
        return _throwable("alien.api.ServerException", message, None, [_REPORT])
    root = _throwable(error.class_name, message, None, [*error.frames, _EXECUTE, _HANDLE])
    # A Throwable made without a cause is its own cause.
    root.fields["cause"] = root
    inner = _throwable("alien.api.ServerException", message, root, [_RETHROW, _HANDLE])
    return _throwable("alien.api.ServerException", message, inner, [_REPORT])


def _throwable(class_name: str, message: Text, cause: Node, frames: list[Frame]) -> Instance:
    made = Instance(CLASSES[class_name])
    made.fields["cause"] = cause
    made.fields["detailMessage"] = message
    made.fields["stackTrace"] = Array(CLASSES["[Ljava.lang.StackTraceElement;"], [_element(f) for f in frames])
    made.fields["suppressedExceptions"] = EMPTY_LIST
    return made


def _element(frame: Frame) -> Instance:
    class_name, method, line = frame
    made = Instance(CLASSES["java.lang.StackTraceElement"], {"format": 1, "lineNumber": line})
    made.fields["classLoaderName"] = literal("app")
    made.fields["declaringClass"] = literal(class_name)
    made.fields["fileName"] = literal(class_name.rpartition(".")[2] + ".java")
    made.fields["methodName"] = literal(method)
    made.fields["moduleName"] = made.fields["moduleVersion"] = None
    return made
