"""Measure the history: filing, pages of every pair of filters, error groups, trimming.

    make bench-history                             # 5,000,000 deliveries in SQLite
    make bench-history ARGS="--copies 0"           # 500,000
    make bench-history ARGS="--url postgresql://..."

The first 500,000 deliveries are filed as a worker files them, in batches of 500. The others are copies of those, made
by SQL, each set later by the time that the first ones span. What was made is kept in the folder and used again.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from statistics import median
from typing import Any, TypeVar

import sqlalchemy as sa

from bench.filed import SOURCES, Shop
from tiercast.history import tables
from tiercast.history.address import HistoryAddress
from tiercast.history.engine import make_engine
from tiercast.history.filtering import HistoryFilter, first_id
from tiercast.history.reading import Page
from tiercast.history.store import History

T = TypeVar("T")

BATCH = 500
PAGE = 51
_SHIFT = 48 // 8


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(prog="bench.history", description=__doc__.partition("\n")[0])
    parser.add_argument("--base", type=int, default=500_000, help="deliveries that are filed")
    parser.add_argument("--copies", type=int, default=9, help="how often those are copied")
    parser.add_argument("--url", default="sqlite:////tmp/tiercast-bench-history/history.db", help="where")
    parser.add_argument("--build-seconds", type=float, default=float("inf"), help="end making it after so long")
    parser.add_argument("--build-only", action="store_true", help="make it and measure nothing but that")
    parser.add_argument("--rounds", type=int, default=3, help="of each page")
    args = parser.parse_args()
    address = HistoryAddress.read(args.url)
    with History(address) as history:
        if not build(history, args.base, args.copies, args.build_seconds):
            print("The time is over; run it again to go on.")
            sys.exit(3)
        status = history.status()
        print(f"{address.dialect}: {status.deliveries:,} deliveries, {status.jobs:,} jobs, {status.classes:,} classes")
        print(f"{status.bytes / 1e9:.2f} GB, {status.bytes_each} bytes a delivery")
        if args.build_only:
            return
        measure_pages(history, args.rounds)
        measure_errors(history, args.rounds)
        measure_trim(history)


def build(history: History, base: int, copies: int, seconds: float) -> bool:
    """Make what is missing; False where the time was over before."""
    ends = time.monotonic() + seconds
    shop = Shop()
    there = history.status().deliveries
    if there < base:
        # So that what is made now is what would have been made in one go.
        shop.seed_from(there)
    began, began_cpu, filed = time.monotonic(), time.process_time(), 0
    made = 0.0
    for start in range(there, base, BATCH):
        before = time.process_time()
        batch = [shop.delivery(number) for number in range(start, min(base, start + BATCH))]
        made += time.process_time() - before
        filed += history.file(batch).new
        if time.monotonic() > ends:
            return False
    if filed:
        cpu = (time.process_time() - began_cpu - made) / filed
        rate = filed / (time.monotonic() - began)
        print(f"filed {filed:,}: {cpu * 1e6:.0f} us of a processor each, {1 / cpu:,.0f}/s of one; {rate:,.0f}/s in all")
    span_ms = round(base * shop.step_ms)
    done = max(0, there // base - 1)
    for copy in range(done + 1, copies + 1):
        began = time.monotonic()
        copy_all(history.address, first_of(shop, base), copy, span_ms)
        print(f"copy {copy} in {time.monotonic() - began:.0f} s", flush=True)
        if time.monotonic() > ends and copy < copies:
            return False
    return True


def first_of(shop: Shop, base: int) -> int:
    """Where the time of the first deliveries ends."""
    return shop.begin_ms + round(base * shop.step_ms)


def copy_all(address: HistoryAddress, until_ms: int, copy: int, span_ms: int) -> None:
    """Copy the first deliveries to a later time, with events of their own."""
    by_ms = copy * span_ms
    engine = make_engine(address)
    shift = (
        "shift({})"
        if address.path
        else (
            "(lpad(to_hex((('x' || substr(replace({0}::text, '-', ''), 1, 12))::bit(48)::bigint + "
            f"{by_ms})), 12, '0') || substr(replace({{0}}::text, '-', ''), 13))::uuid"
        )
    )
    with engine.connect().execution_options(tiercast_writes=True) as connection:
        if address.path:
            driver: Any = connection.connection.driver_connection
            # It can be made again, so it need not survive a loss of power.
            driver.execute("PRAGMA synchronous = OFF")
            driver.execute("PRAGMA cache_size = -2000000")
            driver.create_function("shift", 1, lambda id: _shifted(id, by_ms), deterministic=True)
        with connection.begin():
            _copy_rows(connection, shift, copy, by_ms, first_id(until_ms))
    if address.path is None:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()


def _copy_rows(connection: sa.Connection, shift: str, copy: int, by_ms: int, end: str) -> None:
    is_sqlite = connection.dialect.name == "sqlite"
    parameter, value = ("?", tables.to_bytes(end)) if is_sqlite else ("%s::uuid", end)
    for table, key in ((tables.delivery, "id"), (tables.job, "delivery"), (tables.attempt, "delivery")):
        special = {
            key: shift.format(f'"{key}"'),
            "first": f"CASE WHEN first IS NULL THEN NULL ELSE {shift.format('first')} END",
            "event_id": f"event_id || '-{copy}'",
            "settled_ms": f"settled_ms + {by_ms}",
            "changed_ms": f"changed_ms + {by_ms}",
            "started_ms": f"started_ms + {by_ms}",
        }
        names = [column.name for column in table.c]
        columns = ", ".join(f'"{name}"' for name in names)
        values = ", ".join(special.get(name, f'"{name}"') for name in names)
        connection.exec_driver_sql(
            f'INSERT INTO "{table.name}" ({columns}) SELECT {values} FROM "{table.name}" '
            f'WHERE "{key}" < {parameter} ORDER BY "{key}"',
            (value,),
        )
    for classes, table, key in (
        (tables.delivery_class, tables.delivery, "id"),
        (tables.job_class, tables.job, "delivery"),
    ):
        copied = (
            f'SELECT count(*) FROM "{table.name}" t WHERE t.class = "{classes.name}".id AND t."{key}" < {parameter}'
        )
        connection.exec_driver_sql(f'UPDATE "{classes.name}" SET rows = rows + ({copied})', (value,))


def _shifted(id: bytes, by_ms: int) -> bytes:
    return (int.from_bytes(id[:_SHIFT], "big") + by_ms).to_bytes(_SHIFT, "big") + id[_SHIFT:]


def filters(history: History) -> dict[str, list[Any]]:
    """A common and a rare value of each filter."""
    reading = history.reading
    newest = reading.deliveries(HistoryFilter(state="processed"), limit=1).rows[0]
    status = history.status()
    oldest_ms, newest_ms = status.oldest_ms or 0, status.newest_ms or 0
    groups = reading.error_groups(HistoryFilter(), seconds=None)
    middle = (oldest_ms + newest_ms) // 2
    return {
        "type": ["customer.loyalty.tier.*", "customer.loyalty.tier.left"],
        "source": [SOURCES[0], SOURCES[-1]],
        "action": ["welcome-email", "points"],
        "customer": [frozenset(newest.customer), frozenset(reading.by_id([_any_of(reading, middle)])[0].customer)],
        "campaign": ["camp_00", "Programme 7"],
        "tier": ["Bronze", "ltr_04"],
        "error": ["answered", "suppression list"],
        "pattern": [groups[0].pattern, groups[-1].pattern],
        "event_id": [newest.event_id],
        "since_ms": [middle, newest_ms - 86_400_000],
        "until_ms": [middle, oldest_ms + 86_400_000],
    }


def _any_of(reading: Any, ms: int) -> str:
    page: Page[Any] = reading.deliveries(HistoryFilter(until_ms=ms, state="processed"), limit=1)
    return str(page.rows[0].id)


def measure_pages(history: History, rounds: int) -> None:
    """First pages of every pair of filters, and how long they take."""
    reading = history.reading
    for what, states, pages in (
        ("deliveries", ["processed", "ignored", "quarantined"], reading.deliveries),
        ("jobs", ["done", "dead", "superseded"], reading.jobs),
    ):
        values = filters(history) | {"state": states}
        single = [{name: value} for name, all_of in values.items() for value in all_of]
        pairs = [
            {one: a, other: b} for one, other in combinations(values, 2) for a in values[one] for b in values[other]
        ]
        took: list[tuple[float, float, str, int]] = []
        short = 0
        for chosen in [{}, *single, *pairs]:
            which = HistoryFilter(**chosen)
            whole = pages(which, limit=PAGE, seconds=None)
            read: Callable[[], Page[Any]] = functools.partial(pages, which, limit=PAGE)
            page, seconds, own = _timed(read, rounds)
            if len(whole.rows) >= PAGE and len(page.rows) < PAGE:
                short += 1
            label = " ".join(f"{name}={_label(value)}" for name, value in chosen.items())
            took.append((seconds, own, label, len(page.rows)))
        took.sort(reverse=True)
        print(
            f"{what}: {len(took)} combinations of filters; first page median {median(one[0] for one in took) * 1e3:.0f}"
            f" ms, slowest {took[0][0] * 1e3:.0f} ms; {short} that have a full page did not show it within the budget"
        )
        print(
            f"  of this process's own time median {median(one[1] for one in took) * 1e3:.0f} ms, most "
            f"{max(one[1] for one in took) * 1e3:.0f} ms"
        )
        for seconds, own, label, rows in took[:5]:
            print(f"  {seconds * 1e3:5.0f} ms ({own * 1e3:.0f} ms own)  {rows:2} rows  {label}")


def _timed(read: Callable[[], T], rounds: int) -> tuple[T, float, float]:
    """The last answer of a read, and its median seconds: by the clock, and of this process's own processor time."""
    times, processor = [], []
    for _ in range(rounds):
        began, began_cpu = time.perf_counter(), time.process_time()
        answer = read()
        times.append(time.perf_counter() - began)
        processor.append(time.process_time() - began_cpu)
    return answer, median(times), median(processor)


def _label(value: Any) -> str:
    return "one" if isinstance(value, frozenset) else str(value)


def measure_errors(history: History, rounds: int) -> None:
    """Error groups of all dead jobs, and of those of half the time."""
    status = history.status()
    middle = ((status.oldest_ms or 0) + (status.newest_ms or 0)) // 2
    dead = history.reading.counts_by_state()[1]["dead"]
    for label, which in (("all", HistoryFilter()), ("half the time", replace(HistoryFilter(), since_ms=middle))):
        read = functools.partial(history.reading.error_groups, which, seconds=None)
        groups, seconds, own = _timed(read, rounds)
        counted = sum(group.count for group in groups)
        print(
            f"error groups, {label}: {len(groups)} of {counted:,} of {dead:,} dead jobs in {seconds * 1e3:.0f} ms "
            f"({own * 1e3:.0f} ms own)"
        )


def measure_trim(history: History) -> None:
    """Removing the oldest deliveries, as retention does."""
    status = history.status()
    keep_days = (time.time() * 1000 - (status.oldest_ms or 0)) / 86_400_000 - 0.02
    began = time.perf_counter()
    trimmed = history.trim(keep_days, 10)
    took = time.perf_counter() - began
    if trimmed.removed:
        print(f"trimmed {trimmed.removed:,} in {took:.1f} s: {trimmed.removed / took:,.0f}/s")


if __name__ == "__main__":
    main()
