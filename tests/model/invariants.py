"""The promises that hold for a ledger by itself, recounted from its keys alone."""

from __future__ import annotations

from collections import Counter

from tests.model.snapshot import Fields, Snapshot
from tests.model.world import DELIVERY_LANE, FINAL, KEEP, KEEP_DEAD, LANES, NEED_OPERATOR, SOURCE
from tiercast.ledger.states import JobState

_INDEXED = frozenset(str(state) for state in JobState if state.indexed)


def check(found: Snapshot, *, keep: int = KEEP, keep_dead: int = KEEP_DEAD) -> None:
    """Check everything that is recounted here; the retention is milliseconds."""
    files = "files" in found.hash("meta", "")
    _lanes(found)
    _deliveries_stand(found)
    _jobs_stand(found)
    expected = _families(found, keep, keep_dead)
    if files:
        _history_lane(found, set(expected))
    else:
        assert found.zset("trim") == expected, "what is to leave, and when"
    _open(found, filed=files)
    _indexes(found)
    _groups(found)
    _customers(found)


def action_of(job: str) -> str:
    """The action in a job's key; ours hold no colons."""
    return job.split(":")[2]


def _lanes(found: Snapshot) -> None:
    """Held members and leases are the same, nobody waits and is held at once, and only owed ones have expiries."""
    names = found.sets.get("lanes", {}).get("", set())
    for lane in LANES:
        assert not _standing(found, lane) or lane in names, f"{lane}: holds work and is in no list of lanes"
        due, held = found.zset("due", lane), found.zset("held", lane)
        assert set(held) == set(found.hash("lease", lane)), f"{lane}: held and lease differ"
        assert not set(due) & set(held), f"{lane}: due and held at once"
        assert set(found.hash("expiries", lane)) <= set(due) | set(held), f"{lane}: ended leases of what is settled"


def _standing(found: Snapshot, lane: str) -> set[str]:
    return set(found.zset("due", lane)) | set(found.zset("held", lane))


def _deliveries_stand(found: Snapshot) -> None:
    """A delivery is in its lane while it is queued (for the first time, or again), and only then."""
    bodies = found.names("b")
    assert found.names("d") <= bodies, "a settled delivery lost its body"
    queued = {id_ for id_ in bodies if not found.hash("d", id_) or "again" in found.hash("d", id_)}
    assert queued == _standing(found, DELIVERY_LANE), "queued deliveries and the lane differ"


def _jobs_stand(found: Snapshot) -> None:
    """A job is in its lane while it is owed, and only then; every job belongs to a delivery that names it."""
    jobs = found.hashes.get("j", {})
    for lane in LANES[1:]:
        action = lane.removeprefix("jobs/")
        owed = {key for key, f in jobs.items() if f["s"] == "owed" and action_of(key) == action}
        assert owed == _standing(found, lane), f"{lane}: owed jobs and the lane differ"
    named = [f"{SOURCE}:{f['e']}:{name}" for f in found.hashes.get("d", {}).values() for name in f.get("j", "").split()]
    assert Counter(named) == Counter(jobs.keys()), "jobs and the deliveries that name them differ"


def _families(found: Snapshot, keep: int, keep_dead: int) -> dict[str, int]:
    """The counters of open and bad jobs equal a recount. Returns what has nothing open, and when it may leave."""
    expected: dict[str, int] = {}
    for id_, f in found.hashes.get("d", {}).items():
        family = [found.hash("j", f"{SOURCE}:{f['e']}:{name}") for name in f.get("j", "").split()]
        states = Counter(job["s"] for job in family)
        still_open = sum(n for state, n in states.items() if state not in FINAL)
        bad = sum(n for state, n in states.items() if state in NEED_OPERATOR)
        assert int(f.get("o", 0)) == still_open, f"{id_}: counter of open jobs"
        assert int(f.get("x", 0)) == bad, f"{id_}: counter of dead and uncertain jobs"
        if not still_open and "again" not in f:
            kept = keep_dead if bad or f["s"] == "quarantined" else keep
            expected[id_] = max([int(f["z"]), *(int(job["z"]) for job in family)]) + kept
    return expected


def _history_lane(found: Snapshot, settled: set[str]) -> None:
    """What has nothing open and nothing uncertain waits to be filed, unless it was and keeps a place."""
    undecided, keeping = set(), set()
    for id_ in settled:
        f = found.hash("d", id_)
        family = [found.hash("j", f"{SOURCE}:{f['e']}:{name}") for name in f.get("j", "").split()]
        uncertain = sum(job["s"] == "uncertain" for job in family)
        assert int(f.get("q", 0)) == uncertain, f"{id_}: counter of uncertain jobs"
        if uncertain:
            undecided.add(id_)
        if any(job["s"] == "dead" and job.get("m") == "1" and ("og" in job or "cg" in job) for job in family):
            keeping.add(id_)
    due, held, stay = set(found.zset("due", "history")), set(found.zset("held", "history")), set(found.zset("trim"))
    assert held == set(found.hash("lease", "history")), "history: held and lease differ"
    assert not due & held, "history: due and held at once"
    assert not stay & (due | held), "history: filed, and to be filed"
    assert stay <= keeping, "history: what keeps no place stays"
    assert due | held | stay == settled - undecided, "what is to be filed, and the lane"
    assert set(found.hash("expiries", "history")) <= due | held, "history: expired leases of what is filed"


def _open(found: Snapshot, *, filed: bool) -> None:
    """The counts of what needs an operator equal a recount; with a history they count what is filed, too."""
    expected = Counter(
        f"{f['s']} {key.split(':')[0]} {action_of(key)}"
        for key, f in found.hashes.get("j", {}).items()
        if f["s"] in NEED_OPERATOR
    )
    quarantined = sum(f["s"] == "quarantined" for f in found.hashes.get("d", {}).values())
    if quarantined:
        expected[f"quarantined {SOURCE}"] = quarantined
    counted = Counter({name: int(count) for name, count in found.hash("open", "").items()})
    assert counted >= expected if filed else counted == expected, "counts of what is still open"


def _indexes(found: Snapshot) -> None:
    for state in ("processed", "ignored", "duplicate", "test", "quarantined"):
        settled = {id_ for id_, f in found.hashes.get("d", {}).items() if f["s"] == state}
        assert set(found.zset("ix:d", state)) == settled, f"index of {state} deliveries"
    assert found.names("ix:j") <= _INDEXED
    for state in _INDEXED:
        indexed = {key: int(f["z"]) for key, f in found.hashes.get("j", {}).items() if f["s"] == state}
        assert found.zset("ix:j", state) == indexed, f"index of {state} jobs"


def _group_names(key: str, f: Fields) -> list[str]:
    action = action_of(key)
    order = [f"o:{action}:{f['og']}"] if "og" in f else []
    return order + ([f"c:{action}:{f['cg']}"] if "cg" in f else [])


def _groups(found: Snapshot) -> None:
    """Who has a place stands in the lane (or keeps a once place); who is unsettled is among its group's members."""
    holders: dict[str, str] = {}
    members: dict[str, set[str]] = {}
    keepers: dict[str, set[str]] = {}
    for key, f in found.hashes.get("j", {}).items():
        keeps = f["s"] == "uncertain" or (f["s"] == "dead" and f.get("m") == "1")
        for group in _group_names(key, f):
            if f["s"] == "owed" or (keeps and group.startswith("c:")):
                assert group not in holders, f"{group}: {holders[group]} and {key} side by side"
                holders[group] = key
            if f["s"] in ("owed", "parked"):
                members.setdefault(group, set()).add(f"{f['d']}/{key}")
            elif keeps:
                keepers.setdefault(group, set()).add(f"{f['d']}/{key}")
    assert found.texts.get("s", {}) == holders, "places and who stands"
    for group in set(members) | found.names("p"):
        listed, kept = set(found.zset("p", group)), keepers.get(group, set())
        assert members.get(group, set()) <= listed, f"{group}: an unsettled job is not among its members"
        # One that keeps a once place stays among its group's members; one that bars an order group does not.
        others = kept if group.startswith("c:") else set()
        assert listed <= members.get(group, set()) | others, f"{group}: a settled job is left over"
    for group in found.names("k"):
        assert set(found.zset("k", group)) <= keepers.get(group, set()), f"{group}: one bars it that cannot"


def _customers(found: Snapshot) -> None:
    expected = {(f["c"].split()[0], id_) for id_, f in found.hashes.get("d", {}).items() if "c" in f}
    listed = {(name, id_) for name, ids in found.scores.get("cust", {}).items() for id_ in ids}
    assert listed == expected, "the index of customers"
    named = {alias for f in found.hashes.get("d", {}).values() for alias in f.get("c", "").split()[1:]}
    assert found.names("alias") == named, "other names of customers"
