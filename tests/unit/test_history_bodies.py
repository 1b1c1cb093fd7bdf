"""Bodies as the history keeps them."""

from __future__ import annotations

import json

import pytest

from tiercast.history.bodies import Bodies
from tiercast.samples import envelope, sample_data


def test_bodies_come_back_byte_for_byte() -> None:
    bodies = Bodies()
    event = json.dumps(envelope("customer.loyalty.tier.joined", sample_data()), indent=1).encode()
    for body in (event, b"", b"\x00", b"{}", bytes(range(256)) * 100):
        assert bodies.unpack(bodies.pack(body)) == body
    assert Bodies().unpack(bodies.pack(event)) == event


def test_an_event_takes_a_third_and_anything_else_one_byte_more_at_the_most() -> None:
    event = json.dumps(envelope("customer.loyalty.tier.joined", sample_data())).encode()
    assert len(Bodies().pack(event)) < len(event) / 3
    assert len(Bodies().pack(b"\x8a\x01\xff")) == 4


def test_what_cannot_be_read_is_told() -> None:
    packed = Bodies().pack(json.dumps(sample_data()).encode())
    with pytest.raises(ValueError, match="damaged"):
        Bodies().unpack(packed[:-5])
    with pytest.raises(ValueError, match="later version"):
        Bodies().unpack(b"\x07" + packed[1:])
