"""Logs: one JSON object a line in containers, plain lines in a terminal. Both go to standard error."""

import logging
import sys
from datetime import UTC, datetime

import msgspec


class _Json(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up(service: str, form: str = "", level: str = "INFO") -> None:
    """Log to standard error as `json` or `console`; by default console when a person is watching."""
    handler = logging.StreamHandler(sys.stderr)
    if form == "json" or (not form and not sys.stderr.isatty()):
        handler.setFormatter(_Json(service))
    else:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {service}: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "uvicorn", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
