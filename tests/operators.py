"""Who changes things in tests."""

from __future__ import annotations

from tiercast.control import Actor

ANN = Actor("ann", "cli", "ops1")
