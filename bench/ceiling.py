"""What the endpoints themselves can do, so that they limit nobody: `make bench-endpoints`.

Each endpoint, answering at once, is called over 64 kept connections by a client of its own process. Printed are calls a
second, the endpoint's CPU time a call, and the calls a second that one core would therefore make of it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .endpoint import Spec
from .endpoint_process import SECRET, EndpointProcess
from .environments import prepare
from .events import event_ids
from .load import Generator, Plan
from .processes import end_cleanly
from .report import table
from .workloads import ALL, Workload

_CONNECTIONS = 64

#: SMTP conversations at once; each is a process's thread of one session after another's message.
_SESSIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What an endpoint did: calls and jobs a second, CPU microseconds a call."""

    calls: float
    jobs: float
    cpu: float


def _http_call(event_id: str) -> bytes:
    body = json.dumps({"id": event_id, "type": "customer.loyalty.tier.joined", "customer": "x" * 600}).encode()
    head = (
        "POST /hook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"webhook-id: {event_id}\r\nwebhook-timestamp: {int(time.time())}\r\n"
        f"webhook-signature: v1,{'A' * 43}=\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _crm_call(event_id: str) -> bytes:
    records = [
        {"id": f"{n}", "idProperty": "id", "properties": {"event": f"{event_id}_{n}"}, "objectWriteTraceId": f"{n}"}
        for n in range(100)
    ]
    body = json.dumps({"inputs": records}).encode()
    head = f"POST /records HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _call_http(port: int, count: int, make: Callable[[str], bytes]) -> None:
    ids = event_ids(count, "evcus_")
    plan = Plan(port=port, secret="", connections=_CONNECTIONS)
    Generator(plan, ids, [make(one) for one in ids]).run()


def _send_mails(port: int, count: int) -> None:
    """Send mails over one session, each in one write where PIPELINING allows it."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        answers.readline()
        connection.sendall(b"EHLO bench.example\r\n")
        while not answers.readline().startswith(b"250 "):
            pass
        for one in event_ids(count, "evcus_"):
            connection.sendall(b"MAIL FROM:<a@shop.example>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
            for _ in range(3):
                answers.readline()
            connection.sendall(f"Subject: Event {one}\r\n\r\n{'x' * 300}\r\n.\r\n".encode())
            if not answers.readline().startswith(b"250 "):
                raise ConnectionError("the endpoint did not take a mail")


def measure(workload: Workload, count: int) -> Ceiling:
    """Call the workload's endpoint `count` times, without its delay."""
    spec = Spec(protocol=workload.spec.protocol, secret=SECRET if workload.spec.secret else "")
    with EndpointProcess(spec) as endpoint:
        before = endpoint.stats().cpu
        if spec.protocol == "smtp":
            senders = [
                multiprocessing.Process(target=_send_mails, args=(endpoint.port, count // _SESSIONS))
                for _ in range(_SESSIONS)
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        else:
            _call_http(endpoint.port, count, _crm_call if spec.protocol == "crm" else _http_call)
        found = endpoint.stats()
        seconds = max(found.last - found.first, 1e-9)
        return Ceiling(
            calls=found.calls / seconds, jobs=found.jobs / seconds, cpu=(found.cpu - before) / found.calls * 1e6
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each kind of endpoint, print."""
    parser = argparse.ArgumentParser(prog="make bench-endpoints ARGS=...", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--calls", type=int, default=20_000, help="calls to each (default 20,000; a tenth of it in bulk)"
    )
    given = parser.parse_args(arguments)
    end_cleanly()
    prepare("flask")
    rows = []
    for workload in {one.spec.protocol: one for one in ALL}.values():
        bulk = workload.spec.protocol == "crm"
        found = measure(workload, given.calls // 10 if bulk else given.calls)
        share = 1e6 / found.cpu
        rows.append(
            (workload.spec.protocol, f"{found.calls:,.0f}", f"{found.jobs:,.0f}", f"{found.cpu:.0f}", f"{share:,.0f}")
        )
    print(table(("endpoint", "calls/s reached", "jobs/s", "CPU, µs a call", "calls/s that one core would make"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
