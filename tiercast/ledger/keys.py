"""Every key of the ledger, documented in one place.

All keys start with the prefix (`TIERCAST_PREFIX`, by default `tc`) and a colon. One ledger is one primary, so
scripts compute the keys of the members that they find; all of them are named here. Times are integer
milliseconds of the server's own clock unless a line says otherwise.

    meta                    hash    layout (version of this page), hash_key (secret for the keyed digests, when the
                                    environment names none), hash_check (proof that all processes use one key),
                                    room (cache of the last look at the server's memory), waited (written before
                                    each WAIT for replicas)
    probe                   string  written to find out whether the server takes writes; expires after a minute
    lanes                   set     names of all lanes that ever held work
    lane:<lane>             hash    wake_at, reason (why nothing starts before wake_at), paused, cap (the most held),
                                    ticket ("<when> <bells since>", last rung for or drained), help (until when no
                                    second bell)
    due:<lane>              zset    member -> when it was first due (a retry: when it is due again)
    held:<lane>             zset    member -> when its lease ends
    lease:<lane>            hash    member -> "<token> <due>" while it is held
    lapsed:<lane>           hash    member -> how many leases of it have ended
    aside:<lane>            string  that a process has just been started to see to the lane's suspects; expires
    claim:<token>           string  members of that claim and when each may start, so that repeating it returns the
                                    same; expires
    limit:<name>            string  when the next vendor call may start (microseconds); expires

    b:<delivery>            string  the raw body, byte for byte
    d:<delivery>            hash    what became of it: s state, src source, e event id, h head of its event: "<created>
                                    <form> <type>" (microseconds; form empty where not known), at, r reason or
                                    note, first delivery of a duplicate, j its jobs (`<action>` or `<action>:r2`,
                                    space separated), o jobs not settled,
                                    x jobs dead or uncertain, c digests of its customer, z when it settled,
                                    again (1: a replay adds what is missing, 2: it also does again what is done)
    m:<source>:<event id>   string  first delivery of that event; expires 30 days after it was last seen

    j:<job>                 hash    s state, d the delivery that carried it, n attempts, b attempts before the last
                                    retry by an operator, m 1 when an effect is possible, mt when that was noted
                                    last, r result or reason, z when it changed, og order group, cg once group,
                                    us created (microseconds, where it has a group), u 1 when order could not
                                    apply, ps 1 when its plan skipped it, a<n> attempt n:
                                    "<started> <duration> <outcome> <error>" (the last 20)
    p:<group>               zset    "<arrival>/<job>" of a group's unsettled jobs -> created (microseconds) for an
                                    order group, 0 for a once group
    s:<group>               string  the job of the group that stands in the lane (or keeps the place)
    n:<group>               string  "<created> <arrival>" of the newest job done of an order group; expires after
                                    90 days
    once:<action>           hash    once group's digest -> job that was done, or "forgotten"; for ever

    ix:d:<state>            zset    settled delivery -> received
    ix:j:<state>            zset    job that is parked, skipped, superseded, dead or uncertain -> when it changed
    cust:<digest>           zset    delivery of that customer -> received
    alias:<digest>          set     digests of customers that this source id or email belongs to
    gone                    hash    digest of a forgotten customer's name -> when it was forgotten; for ever
    trim                    zset    delivery -> when it leaves the ledger, with its event and jobs
    clock                   string  tests only: what the clock shows
"""

from __future__ import annotations

#: Version of the layout above; a process refuses a ledger that carries another.
LAYOUT = "2"

DELIVERIES = "deliveries/"
JOBS = "jobs/"


def deliveries_lane(source: str) -> str:
    """Name the lane of a source's deliveries."""
    return DELIVERIES + source


def jobs_lane(action: str) -> str:
    """Name the lane of an action's jobs."""
    return JOBS + action


def job_key(source: str, event_id: str, action: str) -> str:
    """Name a job: `<source>:<event id>:<action>`; an event id may hold colons, the other two never do."""
    return f"{source}:{event_id}:{action}"


def parts_of(job: str) -> tuple[str, str, str]:
    """Source, event id and action of a job's key, be it of a round that an operator asked for (`...:r2`)."""
    head, _, action = job.rpartition(":")
    if action[:1] == "r" and action[1:].isdigit():
        head, _, action = head.rpartition(":")
    source, _, event_id = head.partition(":")
    return source, event_id, action


def event_head(created_us: int, form: str, type: str) -> str:
    """What is kept of an event beside its body, as one text.

    Up to 64 bytes (a type of 38 characters) the server keeps a small hash in one piece, at half the memory; so `at`,
    which would make it longer, has a field of its own.
    """
    return f"{created_us} {form} {type}"


def parts_of_head(head: str | None) -> tuple[int, str, str]:
    """When the event was created (microseconds), form and type; empty what is not known."""
    created, form, type = head.split(" ", 2) if head else ("0", "", "")
    return int(created), form, type
