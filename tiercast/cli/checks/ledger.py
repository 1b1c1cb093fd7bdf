"""Checks the ledger: its server, its settings, and what waits in it."""

from __future__ import annotations

from collections.abc import Iterator

from ...config.model import Config
from ...errors import LedgerError, LedgerUnsuited
from ...ledger import Ledger, examine, keys, open_ledger, prepare
from ...ledger.model import LaneInfo
from ...ledger.reading import Reader
from ...ledger.refusal import error_code
from ...redis_address import place
from ...settings import Settings
from ..lanes import ALWAYS, configured, stands_still
from ..times import iso, span
from .finding import Finding, error, ok, trouble, warning
from .work import check_work

#: Seconds for which work is due, and nobody holds any, before its lane counts as standing still.
_STANDS_STILL = 60.0


def check_ledger(settings: Settings, config: Config | None) -> Iterator[Finding]:
    """Look at the ledger without changing it; lanes are compared with the configuration, where there is one."""
    ledger = open_ledger(settings, role="operator")
    where = place(settings.redis_url)
    try:
        yield from _check_server(ledger, settings, where)
        # A ledger that nobody has used yet is left so: what begins it also chooses its hash key.
        if ledger.is_begun():
            reader = Reader(ledger, prepare(ledger, settings))
            lanes = reader.lanes()
            yield from _check_lanes(lanes, config)
            yield from check_work(reader, lanes, config)
    except LedgerUnsuited as unsuited:
        yield error("ledger", str(unsuited))
    except LedgerError as fault:
        name = type(fault.__cause__ or fault).__name__
        yield error("ledger", f"it does not answer at {where} ({name}). Is TIERCAST_REDIS_URL right?")
    finally:
        ledger.close()


def _check_server(ledger: Ledger, settings: Settings, where: str) -> Iterator[Finding]:
    found = examine(ledger, settings)
    for text in found.errors:
        yield error("ledger", text)
    for text in found.warnings:
        yield warning("ledger", text)
    if found.errors:
        return
    try:
        ledger.ping()
    except LedgerError as fault:
        if error_code(fault) is None:
            raise
        # The server's own words: MISCONF, NOREPLICAS and NOPERM each name their remedy.
        yield error("ledger", f"it answers at {where}, and takes no writes: {fault}")
        return
    used, limit = ledger.memory()
    room = f", {used * 100 // limit} % of its memory used" if limit else ""
    yield ok("ledger", f"answers at {where}, durability {settings.durability}{room}")


def _check_lanes(lanes: list[LaneInfo], config: Config | None) -> Iterator[Finding]:
    known = None if config is None else {*configured(config), *ALWAYS}
    for lane in lanes:
        if known is not None and lane.name not in known:
            yield from _left(lane)
        elif lane.paused:
            level = trouble if lane.owed else warning
            yield level(
                lane.name, f"{stands_still(lane)}; {lane.owed} owed. Let it go on: tiercast lanes resume {lane.name}"
            )
        elif lane.reason and lane.cause != "rate":
            level = trouble if lane.owed else warning
            yield level(lane.name, f"on hold until {iso(lane.hold_until_ms)}: {lane.reason}; {lane.owed} owed")
        elif not lane.held and (lane.oldest_due_seconds or 0) > _STANDS_STILL:
            yield trouble(
                lane.name,
                f"{lane.due} due, the oldest for {span(lane.oldest_due_seconds or 0)}, and nobody works on them. Is a "
                "worker running that hears its queue?",
            )


def _left(lane: LaneInfo) -> Iterator[Finding]:
    if not lane.owed:
        return
    what = "action" if lane.name.startswith(keys.JOBS) else "source"
    text = f"{lane.owed} owed, but the configuration has no such {what}: they wait until it has."
    if what == "action":
        text += f" To give them up: tiercast jobs drop --action {lane.name.removeprefix(keys.JOBS)}"
    yield warning(lane.name, text)
