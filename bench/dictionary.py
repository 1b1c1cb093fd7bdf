"""Make the dictionary with which the history compresses bodies: run once, kept for ever.

    python -m bench.dictionary tiercast/history/events-1.dict

It is made from the sample events and the fixtures of the tests, in which every person is invented: a dictionary of
real bodies would keep what a customer asked to have removed. What stands at its end is found most cheaply, so the
commonest event comes last.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from tiercast.event import TIER_EVENTS
from tiercast.samples import envelope, sample_data

_FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures"
_WHEN = datetime(2026, 3, 2, 10, 0, 4, 250_000, tzinfo=UTC)


def main(path: str) -> None:
    """Write the dictionary."""
    documents = [json.loads(file.read_bytes()) for file in sorted(_FIXTURES.glob("*.json"))]
    for type in ("customer.rewarded.loyalty_points", *reversed(TIER_EVENTS)):
        data = sample_data(type, customer_id="cust_A", name="A", email="a@example.com", source_id="a", at=_WHEN)
        documents.append(envelope(type, data, event_id="evcus_", send_id="whs_"))
    texts = (json.dumps(document, separators=(",", ":"), ensure_ascii=False) for document in documents)
    Path(path).write_bytes("".join(dict.fromkeys(texts)).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
