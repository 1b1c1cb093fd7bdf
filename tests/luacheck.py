"""Runs luacheck over the ledger's scripts, each put together from its parts; says so where it is not installed.

A part's function that one script does not use is no finding: other scripts have the same part. One that no script uses
is.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import click

from tiercast.ledger import scripts

#: One finding in luacheck's plain form: file, line, code, text.
_FINDING = re.compile(r"^.*?([\w-]+)\.lua:(\d+):\d+: \((\w\d+)\) (.*)$")

_UNUSED = "W211"


def check(sources: dict[str, str], luacheck: str, config: Path) -> list[str]:
    """Findings in scripts, given by name, each with the text of its line."""
    found: list[str] = []
    unused: defaultdict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in sources.items():
            # Lua does not know the line that tells the server what a script may do.
            (Path(folder) / f"{name}.lua").write_text(text.replace("#!lua", "--lua", 1), encoding="utf-8")
        done = subprocess.run(
            [luacheck, "--config", str(config), "--codes", "--no-color", "--formatter", "plain", folder],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode > 2:
        return [done.stderr or done.stdout]
    for line in done.stdout.splitlines():
        match = _FINDING.match(line)
        if match is None:
            found.append(line)
            continue
        script, at, code, text = match.groups()
        if code == _UNUSED:
            unused[text].add(script)
        else:
            found.append(f"{script}: ({code}) {text}: {sources[script].splitlines()[int(at) - 1].strip()}")
    for text, where in sorted(unused.items()):
        name = text.rpartition(" ")[2].strip("'")
        if where == {script for script, source in sources.items() if re.search(rf"\b{name}\b", source)}:
            found.append(f"no script uses it: ({_UNUSED}) {text}")
    return found


def main() -> int:
    """Check all scripts; status 1 where something was found."""
    luacheck = shutil.which("luacheck")
    if luacheck is None:
        click.echo("No luacheck (Debian: apt install lua-check): the Lua scripts are not linted.")
        return 0
    sources = {name: scripts.source(name, test_clock=True) for name in scripts.NAMES}
    found = check(sources, luacheck, Path(__file__).parents[1] / ".luacheckrc")
    click.echo("\n".join(found) if found else f"luacheck: {len(sources)} scripts, nothing found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
