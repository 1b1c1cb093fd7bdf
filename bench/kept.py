"""What the ledger keeps of an event with three jobs once it is settled and filed: `python -m bench.kept`.

It goes the ledger's own way (record, plan, perform, let go) without receivers, workers and database, since none of
them changes what stays. The events are of 10,000 customers. `--places` gives the three actions `order` and `once`.
`--marks N` sets N marks and nothing else, by the same part of the scripts: a million in seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from tiercast.embedded import EmbeddedServer
from tiercast.ids import new_delivery_id
from tiercast.ledger import Digests, Ledger, keys, new_token
from tiercast.ledger.client import connect
from tiercast.ledger.filing import exchange_history, start_filing
from tiercast.ledger.model import Claim, DeliveryState, Outcome, Plan, PlannedJob

_SOURCE = "voucherify"
_ACTIONS = ("welcome-email", "crm-tier", "points")
_BATCH = 100
_FILED = 500
_LEASE_SECONDS = 1.5
_TYPE = "customer.loyalty.tier.joined"
_BODY = b"{" + b" " * 1_198 + b"}"


class Ledgerful:
    """Fills a ledger with events and empties it again.

    Args:
        customers: the number of customers, whom the events are of by turns.
        places: whether the actions have `order` and `once`.
    """

    def __init__(self, ledger: Ledger, *, customers: int, places: bool) -> None:
        self._ledger = ledger
        self._digests = Digests("bench")
        self._customers = customers
        self._places = places
        self._made = 0

    def add(self, count: int) -> None:
        """Record `count` events, plan them, perform their jobs and file all of it."""
        for start in range(0, count, _BATCH):
            self._tell(min(_BATCH, count - start))
            for action in _ACTIONS:
                self._perform(action)
        self.file()

    def _tell(self, count: int) -> None:
        self._ledger.record([(_SOURCE, new_delivery_id(), _BODY) for _ in range(count)])
        token = new_token()
        held = self._ledger.exchange_deliveries(_SOURCE, claim=Claim(token=token, n=count)).claimed
        self._ledger.exchange_deliveries(_SOURCE, [self._plan(each.id, token) for each in held])

    def _plan(self, delivery: str, token: str) -> Plan:
        number = self._made
        self._made += 1
        customer = number % self._customers
        names = tuple(
            self._digests.customer(_SOURCE, kind, f"{kind}-{customer}@example.com")
            for kind in ("id", "source_id", "email")
        )
        return Plan(
            delivery=delivery,
            token=token,
            state=DeliveryState.PROCESSED,
            event_id=f"evcus_{number:016x}",
            type=_TYPE,
            at="2026-08-01T10:00:00.000Z",
            created_us=1_790_000_000_000_000 + number,
            form="envelope",
            project=_SOURCE,
            customer=names,
            keeps_names=self._places,
            jobs=tuple(self._job(action, names[0]) for action in _ACTIONS),
        )

    def _job(self, action: str, customer: str) -> PlannedJob:
        if not self._places:
            return PlannedJob(action=action)
        tier = self._digests.short("tier", "gold")
        if action == "points":
            return PlannedJob(action=action, once=customer + tier)
        if action == "crm-tier":
            return PlannedJob(action=action, order=customer + tier)
        return PlannedJob(action=action)

    def _perform(self, action: str) -> None:
        lane = keys.jobs_lane(action)
        while True:
            token = new_token()
            held = self._ledger.exchange_jobs(lane, claim=Claim(token=token, n=_BATCH)).claimed
            if not held:
                return
            done = [
                Outcome(job=job.key, token=token, verdict="done", duration=0.012, text="sent", answered=True)
                for job in held
            ]
            self._ledger.exchange_jobs(lane, done)

    def file(self) -> None:
        """Let go of all that is settled, as a filer does after its commit."""
        lane = self._ledger.key(f"due:{keys.HISTORY}")
        client = cast(Any, self._ledger.client)
        filed: list[Any] = []
        while filed or client.zcard(lane):
            exchange = exchange_history(self._ledger, filed, Claim(token=new_token(), n=_FILED))
            filed = exchange.claimed
            if not filed and client.zcard(lane):
                time.sleep(0.1)


_SET_MARKS = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local _, bucket, field = find_mark('voucherify', string.format('evcus_%016x', number))
  set_mark(bucket, field, string.format('01900000-%04x-7000-8000-%012x', number % 65536, number))
end
flush_marks()
return redis.call('TIME')
"""


def set_marks(client: Any, count: int) -> dict[str, float]:
    """Set so many marks, and weigh them."""
    lua = files("tiercast.ledger") / "lua"
    parts = ((lua / name).read_text(encoding="utf-8") for name in ("_common.lua", "_marks.lua"))
    script = client.script_load("\n".join([*parts, _SET_MARKS]))
    before = client.info("memory")["used_memory"]
    began = _cpu(client)
    for start in range(0, count, _BATCH):
        client.evalsha(script, 1, "tc:", start, min(start + _BATCH, count) - 1)
    seconds = _cpu(client) - began
    buckets = int(client.hget("tc:marks", "buckets"))
    sizes = [client.hlen(f"tc:m:{number}") for number in range(0, buckets, max(1, buckets // 1000))]
    return {
        "marks": int(client.hget("tc:marks", "count")),
        "bytes_by_used_memory": round((client.info("memory")["used_memory"] - before) / count, 1),
        "bytes_by_memory_usage": round(_mark_bytes(client, buckets) / count, 1),
        "buckets": buckets,
        "largest_bucket": max(sizes),
        "cpu_us_a_mark": round(seconds / count * 1e6, 1),
    }


def _cpu(client: Any) -> float:
    """Seconds of processor time that the server has taken."""
    return float(client.info("cpu")["used_cpu_user"])


def main() -> None:
    """Measure, and print one line for each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--places", action="store_true", help="actions with order and once")
    parser.add_argument("--marks", type=int, help="only set so many marks")
    parser.add_argument("--step", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    given = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedServer(Path(folder), appendonly="no", appendfsync="no") as server,
    ):
        client = cast(Any, connect(server.url, timeout=60))
        if given.marks:
            print(set_marks(client, given.marks))
            return
        ledger = Ledger(client, prefix="tc", lease=_LEASE_SECONDS)
        start_filing(ledger)
        full = Ledgerful(ledger, customers=given.customers, places=given.places)
        full.add(min(1000, given.step))
        full_before = _memory(client)
        told = 0
        while told < given.events:
            count = min(given.step, given.events - told)
            began = time.perf_counter()
            full.add(count)
            told += count
            seconds = time.perf_counter() - began
            each = (_memory(client) - full_before) / told
            marks = client.hgetall("tc:marks")
            row = {
                "events": told,
                "bytes_an_event": round(each, 1),
                "buckets": int(marks[b"buckets"]),
                "bytes_a_mark": round(_mark_bytes(client, int(marks[b"buckets"])) / int(marks[b"count"]), 1),
                "keys": client.dbsize(),
                "ms_an_event": round(seconds / count * 1000, 3),
            }
            rows.append(row)
            print(row, flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


def _memory(client: Any) -> int:
    """Bytes that the server uses, once what it keeps of claims has expired."""
    time.sleep(3 * _LEASE_SECONDS)
    return int(client.info("memory")["used_memory"])


def _mark_bytes(client: Any, buckets: int) -> float:
    """What all buckets of marks take, by MEMORY USAGE of a thousand of them, or of all."""
    every = max(1, buckets // 1000)
    looked = range(0, buckets, every)
    return sum(client.memory_usage(f"tc:m:{number}", samples=0) or 0 for number in looked) / len(looked) * buckets


if __name__ == "__main__":
    main()
