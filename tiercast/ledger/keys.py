"""Every key of the ledger, documented in one place.

All keys start with the prefix (`TIERCAST_PREFIX`, by default `tc`) and a colon. One ledger is one primary, so
scripts compute the keys of the members that they find; all of them are named here. Times are integer
milliseconds of the server's own clock unless a line says otherwise.

    meta                    hash    layout (version of this page), hash_key (secret for the keyed digests, when the
                                    environment names none), hash_check (proof that all processes use one key),
                                    room ("<when> <level> <part>": cache of the last look at the server's memory; 0
                                    full, 1 within the share, 2 beyond it, with the bytes that a source may still
                                    store), waited (written before each WAIT for replicas), files (since when what is
                                    settled is owed to a history), history (that database's id), id (the ledger's
                                    own), rounds_cursor (where the sweep of `rounds` goes on)
    room                    hash    while the memory is beyond the share: lane of deliveries -> bytes that it stored so
    clock_shift             hash    for a clock that went back: seen (the latest that a worker saw), total (ms by which
                                    what is due and held was moved in all), last and at (by how much last, and when),
                                    and of a move under way by, lane and cursor (where it goes on)
    probe                   string  written to find out whether the server takes writes; expires after a minute
    lanes                   set     names of all lanes that ever held work
    lane:<lane>             hash    of a hold: hold_until, cause (credential, setting, vendor, outage, rate),
                                    reason, hold_from (since when the lane is on hold or paused without a
                                    break), hold_total (ms of all holds and pauses that have ended)
                                    of a pause: paused (why), paused_by, paused_at
                                    cap (the most held)
                                    of bells: bell ("<when> <rung since one was heard>" of the one under way),
                                    drained (until when a drain is about to claim, so new work needs no bell),
                                    extra_bell (when a bell was last rung that brings further processes)
                                    of an outage: outage (up to three jobs, one a line, that met one with no answer
                                    between), outage_reason, probe (number of the next probe, while it lasts)
                                    of a credential or setting in doubt: doubt (JSON: ms, cause, reason, code, at),
                                    until a job is done; alike (JSON: how many jobs died of which code of the
                                    vendor's since one was done)
    due:<lane>              zset    member -> when it was first due (a retry: when it is due again)
    held:<lane>             zset    member -> when its lease ends
    lease:<lane>            hash    member -> "<token> <due>" while it is held
    expiries:<lane>         hash    member -> how many leases of it have expired
    isolation:<lane>        string  that a process works on the lane's members whose lease has expired twice or more;
                                    it renews this, else it expires
    claim:<token>           string  members of that claim and when each may start, so that repeating it returns the
                                    same; expires
    limit:<name>            string  when the next vendor call may start (microseconds); expires. `learnt/<name>` is
                                    the one of a learnt rate
    limit_hold:<name>       string  why the vendor has the limit held; expires with the hold
    rate:<name>             hash    the rate that was learnt for a limit or an action's lane: base (jobs a second, right
                                    after the last refusal), at (when that was), ceiling (what the vendor refused; 0
                                    where that is not known), grown (ms that work has waited for the rate since then),
                                    limited (when it last did); expires an hour after the last refusal
    answered:<name>         hash    jobs that the vendor has answered for a limit or an action's lane: second (since
                                    1970), count (in it), before (in the second before it); expires

    b:<delivery>            string  the raw body, byte for byte
    d:<delivery>            hash    what became of it: s state, src source, e event id, h head of its event: "<created>
                                    <form> <type>" (microseconds; form empty where not known), at, r reason or
                                    note, v what became of the rules where one did not hold (rule_outcomes.py),
                                    first delivery of a duplicate, j its jobs (`<action>` or `<action>:r2`,
                                    space separated), o jobs not settled,
                                    x jobs dead or uncertain, c digests of its customer, z when it settled,
                                    q jobs uncertain, p project of its event where it is not the source's name, rd
                                    its round: how often something settled of it has changed,
                                    again (1: a replay adds what is missing, 2: it also does again what is done),
                                    only (actions, space separated: it adds no others), rounds (`<action>:r2`,
                                    space separated: it does no others again), op operation that replayed it last
    m:<number>              hash    bucket of event marks: 8 bytes of the digest of an event's project and id -> day of
                                    its last sight and the delivery that told it first (_marks.lua)
    marks                   hash    count (marks in all buckets), buckets (how many there are), cursor (which is swept
                                    next), swept (when a bucket last was)
    projects                set     "<source>/<project>" of all events: the Voucherify project that a body names, or
                                    else the source's own

    j:<job>                 hash    s state, d the delivery that carried it, n attempts, b attempts before the last
                                    retry by an operator, ff when it first failed by itself since then, fh hold_total
                                    of its lane at that time, the hold under way included, m 1 when an effect is
                                    possible, mt when that was noted last, r result or reason, z when it changed,
                                    og order group, cg once group,
                                    us created (microseconds, where it has a group), and behind it what stands in
                                    for its arrival where the event's id carries a time, u 1 when order could not
                                    apply, ps 1 when its plan skipped it, op operation that changed it, a<n> attempt n:
                                    "<started> <duration> <outcome> <error>" (the first and the last 20)
                                    A digest of 24 characters is that of a customer's name and what tells the
                                    group from others of theirs.
    p:<group>               zset    "<arrival>/<job>" of a group's owed and parked jobs (of a once group also
                                    the one that keeps the place) -> created (microseconds) for an order group, 0 for
                                    a once group
    k:<group>               zset    the same of an order group's settled jobs that may have had their effect: they bar
                                    what is older
    s:<group>               string  the job of the group that stands in the lane (or keeps the place)
    n:<group>               string  "<created> <arrival>" of the newest job done of an order group; expires after
                                    90 days, but not while the group is unfinished
    unfinished              hash    group with more members than one script visits -> where to go on: of an order group
                                    by which job the older ones are superseded, of a once group the member after
                                    which to look for the next. Its members stay parked meanwhile, and none
                                    stands that may not; trimmer and claims go on
    once:<action>           hash    once group's digest -> job that was done, or "forgotten"; for ever

    ix:d:<state>            zset    settled delivery -> received
    ix:j:<state>            zset    job that is parked, skipped, superseded, dead or uncertain -> when it changed
    cust:<digest>           zset    delivery of that customer -> received
    alias:<digest>          set     digests of customers that this source id or email belongs to
    same:<3 characters>     hash    rest of a name's digest -> which names stand for one customer (_names.lua); for ever
    gone                    hash    digest of a forgotten customer's name -> when it was forgotten; for ever
    rewrite                 hash    of the append-only file: left, forgot (when the first delivery left by retention, or
                                    because its customer was forgotten, that no rewrite has covered), begun ("<when>
                                    <run id of the server> <rewrites that it had made> <left> <forgot>" of the
                                    rewrite under way), asked (when a trimmer last looked at it), refused ("<when>
                                    <why>", where the server does not let us)
    erasing:<digest>        string  JSON: all names of a customer whose erasure is not complete, for the next run; by
                                    the digest of each name; goes when it is complete, at the latest after 90 days
    ops                     zset    operation -> when it began; up to 1,000
    op:<operation>          hash    a bulk request: verb (control/verbs.py), script (its verb in _verbs.lua), filter
                                    (JSON, times fixed, a customer by digests), names (JSON, in place of a filter),
                                    start (cursor before the first member), only and skip (JSON, actions that it is
                                    limited to and that it leaves alone), try (1, 0, or empty: where there are many),
                                    rate (members a second), by, from, address, why, subject (the filter in words)
                                    state (counting, trying, running, done, cancelled, stopped), reason (why stopped),
                                    stopped_in (the state before it ended), created, moved (its last step), ended
                                    cursor (after which member to go on), expected (members counted), counts (JSON, by
                                    state, action and error), candidates (JSON, error -> members to try first)
                                    seen, done, refused (members so far), refusals (JSON, reason, count, names)
                                    tried (JSON, name, watch (what to look at), error before), tried_at
                                    expires 30 days after it ended
    op_touched:<operation>  list    jobs and deliveries that it changed, the first 100,000; expires with it
    audit                   stream  who changed what, an entry a change or part of one, for 400 days: at (when), by
                                    (user), from (cli or console), address (their host or network address), verb,
                                    subject (job, delivery, lane, operation, digest, or a filter in words), count
                                    (members changed), refused (members left alone), why, result, op (operation),
                                    request (the same for all parts of one), part (from 1 on)
    audit_fresh             stream  the same while it is written anew without a person's name; within one script
    trim                    zset    delivery -> when it leaves the ledger, with its event and jobs. Where there is a
                                    history: only filed ones with a job that keeps a place of its groups
    unfiled                 zset    deliveries settled before there was a history, which the trimmer owes to it
    rounds                  hash    delivery that left -> "<round> <day>", where it is not its first round
    open                    hash    "dead <source> <action>", "uncertain <source> <action>", "quarantined <source>" ->
                                    how many there are that no operator has decided yet, filed ones included
    clock                   string  tests only: what the clock shows
    budget                  string  tests only: how many members of large groups one script visits
"""

from __future__ import annotations

#: Version of the layout above; a process refuses a ledger that carries another.
LAYOUT = "5"

DELIVERIES = "deliveries/"
JOBS = "jobs/"

#: The lane of what is settled and is to be filed.
HISTORY = "history"
#: The lane of all operations.
OPERATIONS = "operations/all"


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


def order_group(action: str, digest: str) -> str:
    """Name the order group of an action's jobs that share this digest."""
    return f"o:{action}:{digest}"


def once_group(action: str, digest: str) -> str:
    """Name the once group of an action's jobs that share this digest."""
    return f"c:{action}:{digest}"


def round_of(job: str) -> int:
    """Which round of its action a job is: 1 for the first, 2 for a key that ends in `:r2`."""
    last = job.rpartition(":")[2]
    return int(last[1:]) if last[:1] == "r" and last[1:].isdigit() else 1


def sent_key(job: str, once: str | None) -> str:
    """The idempotency key that the kind gets, and sends to its vendor: the job's own, or that of its once group.

    Args:
        job: the job's key.
        once: the digest of its once group, None where it has none.
    """
    if once is None:
        return job
    source, _, action = parts_of(job)
    return f"{source}:once-{once}:{action}"


def parts_of_sent_key(text: str) -> tuple[str, str] | None:
    """Action and digest of a key that a once group shares, as `sent_key` makes it; None for any other text."""
    head, _, action = text.rpartition(":")
    once = head.partition(":")[2]
    return (action, once.removeprefix("once-")) if action and once.startswith("once-") else None


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
