"""The model's ledger: one row for each batch job that was ever accepted, also when the controller has forgotten it."""

from __future__ import annotations

from typing import Any

from tests.world.superfacility.batch_script import BatchOptions
from tests.world.superfacility.ledger import FORGOTTEN, VOID_EXIT_CODE
from tests.world.superfacility.model.controller import Controller
from tests.world.superfacility.model.jobs import ENDED_STATES, Element


class ModelLedger:
    """A ledger (see ledger.Ledger) that needs no word of what was accepted: the model knows."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def accept(self, job_id: str, options: BatchOptions, *, default_name: str) -> None:
        """The model has it already."""

    async def rows(self) -> list[dict[str, Any]]:
        """Return one row for each batch job that was ever accepted, forgotten ones included."""
        self._controller.advance()
        return ledger_rows(self._controller)


def ledger_rows(controller: Controller) -> list[dict[str, Any]]:
    """Return rows as ledger.Ledger.rows says; instants are the wall clock's unix seconds."""
    return [_row(controller, element) for batch in controller.ledger for element in batch.elements]


def _row(controller: Controller, element: Element) -> dict[str, Any]:
    batch, shown = element.batch, controller.clock.shown
    forgotten = batch.forgotten_at is not None
    ended = element.end_at is not None and (element.state in ENDED_STATES or forgotten)
    code = element.exit_code or (128 + element.exit_signal if element.exit_signal else 0)
    exit_code = code if ended and element.start_at is not None and not forgotten else None
    return {
        "name": batch.name,
        "index": element.index,
        "comment": batch.comment,
        "job_id": str(batch.job_id),
        "submitted_at": batch.accepted_at,
        "started_at": None if element.start_at is None else shown(element.start_at),
        "ended_at": shown(element.end_at) if ended and element.end_at is not None else None,
        "state": FORGOTTEN if forgotten else element.state,
        "exit_code": exit_code,
        "void": exit_code == VOID_EXIT_CODE,
        "nodes": list(element.nodes),
        "restarts": element.restarts,
        "run_s": element.run_s(controller.time),
    }
