"""Reads every key of a ledger, so that nothing it holds escapes the comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import redis

Fields = dict[str, str]
Scores = dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a ledger holds at one moment, by kind of key and then by the rest of the key's name (see keys.py)."""

    hashes: dict[str, dict[str, Fields]] = field(default_factory=dict)
    scores: dict[str, dict[str, Scores]] = field(default_factory=dict)
    texts: dict[str, dict[str, str]] = field(default_factory=dict)
    sets: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    def hash(self, kind: str, name: str) -> Fields:
        """A hash's fields; none where the key is missing."""
        return self.hashes.get(kind, {}).get(name, {})

    def zset(self, kind: str, name: str = "") -> Scores:
        """A sorted set's members; none where the key is missing."""
        return self.scores.get(kind, {}).get(name, {})

    def names(self, kind: str) -> set[str]:
        """Of which names there are keys of this kind."""
        return {name for kinds in (self.hashes, self.scores, self.texts, self.sets) for name in kinds.get(kind, {})}


#: Reads all keys at once. JSON comes back, because a client is slow at parsing thousands of small answers. What buckets
#: of marks hold is no text: it comes as hexadecimal digits.
_READ = """
local all = {}
local function byte_as_hex(byte) return string.format('%02x', string.byte(byte)) end
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  local kind = redis.call('TYPE', key).ok
  local value
  if kind == 'hash' then
    value = redis.call('HGETALL', key)
    if string.find(key, '^[^:]*:m:') then
      for i, text in ipairs(value) do value[i] = string.gsub(text, '.', byte_as_hex) end
    end
  elseif kind == 'zset' then
    value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then
    value = redis.call('SMEMBERS', key)
  elseif kind == 'stream' then
    value = tostring(redis.call('XLEN', key))
  else
    value = redis.call('GET', key)
  end
  all[#all + 1] = { key, kind, value }
end
return cjson.encode(all)
"""


def take_snapshot(client: redis.Redis, prefix: str) -> Snapshot:
    """Read a small ledger whole, in one step. Its bodies must be text."""
    text = client.eval(_READ, 0, f"{prefix}:*")
    rows = json.loads(text)
    snapshot = Snapshot()
    for key, kind, value in sorted(rows or [], key=lambda row: str(row[0])):
        group, name = _split(key[len(prefix) + 1 :])
        if kind == "hash":
            snapshot.hashes.setdefault(group, {})[name] = dict(_pairs(value))
        elif kind == "zset":
            snapshot.scores.setdefault(group, {})[name] = {member: int(score) for member, score in _pairs(value)}
        elif kind == "set":
            snapshot.sets.setdefault(group, {})[name] = set(value)
        else:
            snapshot.texts.setdefault(group, {})[name] = value
    return snapshot


def _split(key: str) -> tuple[str, str]:
    """`ix:j:dead` -> (`ix:j`, `dead`); `j:<job>` -> (`j`, job); `trim` -> (`trim`, "")."""
    head, _, rest = key.partition(":")
    if head == "ix":
        middle, _, rest = rest.partition(":")
        return f"{head}:{middle}", rest
    return head, rest


def _pairs(flat: list[str]) -> Iterator[tuple[str, str]]:
    return zip(flat[::2], flat[1::2], strict=True)
