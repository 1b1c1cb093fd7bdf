"""Patterns of event types: `*` stands for anything, in linear time however many stars there are."""

from __future__ import annotations

import fnmatch
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiercast.config.events import pattern


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Give up after a while: a pattern that backtracks would take hours."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    ("on", "type", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
        ("a.*", "a.", True),
        ("a.*", "a", False),
        ("*.c", "a.b.c", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "a.b.b.c", True),
        ("a*b*c", "a.c.b", False),
        ("*", "", True),
        ("**", "x", True),
        ("a*a", "a", False),
        ("*ab*b", "ab", False),
        ("*ab*b", "abab", True),
    ],
)
def test_a_star_stands_for_anything(on: str, type: str, matches: bool) -> None:
    assert bool(pattern(on).fullmatch(type)) is matches


@settings(max_examples=500, deadline=None, database=None)
@given(st.text("ab.*", max_size=8), st.text("ab.", max_size=12))
def test_it_matches_as_globs_do(on: str, type: str) -> None:
    expected = re.fullmatch(fnmatch.translate(on), type)
    assert bool(pattern(on).fullmatch(type)) is bool(expected)


@pytest.mark.parametrize("on", ["*.*.*x", "*.*.*.*.*x", "*" + ".*" * 30 + "x", "a*" * 40 + "b"])
def test_many_stars_take_linear_time(on: str) -> None:
    with at_most(5):
        began = time.process_time()
        for type in ("." * 512, "a" * 512, "a." * 256):
            assert not pattern(on).fullmatch(type)
    assert time.process_time() - began < 1
