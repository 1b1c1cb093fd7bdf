"""The ledger under random interleavings, against the plain model.

`TIERCAST_MODEL_EXAMPLES=2000 pytest tests/model` looks longer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import LedgerMachine
from tiercast.ledger.client import LedgerClient

_EXAMPLES = int(os.environ.get("TIERCAST_MODEL_EXAMPLES", "40"))


@pytest.mark.timeout(max(120, _EXAMPLES * 3))
def test_the_ledger_does_what_the_plain_model_does(client: LedgerClient) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(client)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=_EXAMPLES,
            stateful_step_count=60,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
