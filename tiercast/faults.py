"""What is shown of a bug: type and place, and never its text, which may quote a customer's data."""

from __future__ import annotations

import traceback
from pathlib import Path


def fault_text(error: BaseException) -> str:
    """The type of an exception and where it was raised: `KeyError in stars.py, line 41 (perform)`."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    frame = frames[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno} ({frame.name})"
