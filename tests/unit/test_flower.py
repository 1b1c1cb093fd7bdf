"""The credentials that Flower is asked for, and what Flower is given of them."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest

from tiercast.flower import credentials, matches


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("text", ["admin:s3cret,tail-9", "admin:päss:wörd", "a:b"])
def test_a_password_may_hold_anything(text: str) -> None:
    wanted = credentials(text)
    assert matches(basic(text), wanted)
    assert not matches(basic(text.partition(",")[0] if "," in text else text[:-1]), wanted)
    for header in ("", "Basic", "Basic !", f"Bearer {basic(text)[6:]}", basic("")):
        assert not matches(header, wanted)


@pytest.mark.parametrize("text", ["", "admin", "admin:", ":secret"])
def test_without_name_and_password_flower_does_not_start(text: str) -> None:
    with pytest.raises(ValueError, match="set it to name:password"):
        credentials(text)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tiercast.flower"],
        env={"PATH": "/bin:/usr/bin", "FLOWER_BASIC_AUTH": text},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: FLOWER_BASIC_AUTH has no password")
