"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "trouble", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `tiercast check`: how bad, about what, in which words."""

    level: Level
    about: str
    text: str


def ok(about: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding("ok", about, text)


def warning(about: str, text: str) -> Finding:
    """It works, and somebody should know."""
    return Finding("warning", about, text)


def trouble(about: str, text: str) -> Finding:
    """The set-up works, and something in it needs a person: dead jobs, a lane that stands still."""
    return Finding("trouble", about, text)


def error(about: str, text: str) -> Finding:
    """It does not work."""
    return Finding("error", about, text)
