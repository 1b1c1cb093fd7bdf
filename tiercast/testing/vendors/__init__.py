"""Vendors that run on this machine: HTTP servers as strict as the real ones, which keep what they were told.

    with FakeKlaviyo() as vendor:
        action = make_action(Klaviyo, {**vendor.options(), "identifier": "external_id", "id": "c-1"})
        ...
        assert vendor.effects() == {"c-1": {"tier": "Gold"}}

Each refuses what its vendor refuses, counts calls in the vendor's own windows and answers 429 beyond them, and keeps
state, so that a test sees an effect where it counts: at the vendor. See `tiercast.testing.vendors.server` for what they
share, and for scripted failures.
"""

from __future__ import annotations

from .server import Answer, FakeVendor, Fault, Request, Window

__all__ = ["Answer", "FakeVendor", "Fault", "Request", "Window"]
