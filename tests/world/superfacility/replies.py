"""What all endpoints share: their type, 404, 422 in the API's shape, and how parameters are read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Endpoint = Callable[[Request], Awaitable[Response]]
NOT_FOUND = {"detail": "Not found"}
TRUE, FALSE = ("true", "1", "yes", "on", "t", "y"), ("false", "0", "no", "off", "f", "n")


class InvalidError(Exception):
    """A parameter is wrong: `where` it stands, in which words, of which type."""

    def __init__(self, *where: str, text: str = "field required", kind: str = "value_error.missing") -> None:
        super().__init__(text)
        self._where, self._text, self._kind = where, text, kind

    def reply(self) -> Response:
        """Return 422 with the API's detail."""
        return JSONResponse({"detail": [{"loc": list(self._where), "msg": self._text, "type": self._kind}]}, 422)


def checked(endpoint: Endpoint, machines: tuple[str, ...]) -> Endpoint:
    """Return the endpoint behind a check of the machine's name; wrong parameters are answered with 422."""

    async def answer(request: Request) -> Response:
        try:
            if request.path_params["machine"] not in machines:
                permitted = ", ".join(f"'{name}'" for name in machines)
                text = f"value is not a valid enumeration member; permitted: {permitted}"
                raise InvalidError("path", "machine", text=text, kind="type_error.enum")
            return await endpoint(request)
        except InvalidError as error:
            return error.reply()

    return answer


def flag(value: str | None, *, default: bool, where: tuple[str, str] = ("query", "")) -> bool:
    """Read a boolean; raises InvalidError."""
    if value is None:
        return default
    if value.lower() not in (*TRUE, *FALSE):
        raise InvalidError(*where, text="value could not be parsed to a boolean", kind="type_error.bool")
    return value.lower() in TRUE


def whole_number(value: str | None, *, where: tuple[str, str]) -> int:
    """Read a whole number from zero up, zero when absent; raises InvalidError."""
    if value is None:
        return 0
    if not value.removeprefix("-").isascii() or not value.removeprefix("-").isdigit() or len(value) > 12:
        raise InvalidError(*where, text="value is not a valid integer", kind="type_error.integer")
    if int(value) < 0:
        text = "ensure this value is greater than or equal to 0"
        raise InvalidError(*where, text=text, kind="value_error.number.not_ge")
    return int(value)
