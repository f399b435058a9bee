-- The durable queue. Times are whole microseconds since 1970, UTC. States are the values of `states.State`.

-- A message in our custody; it goes when its last recipient has ended.
CREATE TABLE message (
    key INTEGER PRIMARY KEY,        -- in order of arrival; also the number of its "received" line in history
    queue_id TEXT NOT NULL UNIQUE,
    sender_local_part TEXT,         -- NULL for the null reverse-path
    sender_domain TEXT,
    size_bytes INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    received_from TEXT NOT NULL,
    protocol TEXT NOT NULL,
    owner_uid INTEGER,
    ret TEXT,
    envid TEXT NOT NULL,
    declared_body TEXT NOT NULL,
    smtputf8 INTEGER NOT NULL,
    kind TEXT NOT NULL,
    priority INTEGER NOT NULL
) STRICT;

-- What lists do not read. A body of NULL is a file in bodies/.
CREATE TABLE content (
    message INTEGER PRIMARY KEY,
    header BLOB NOT NULL,
    body BLOB
) STRICT;

-- Its recipients. One is in exactly one state.
CREATE TABLE recipient (
    id INTEGER PRIMARY KEY,         -- message.key * 2^20 + position: a message's stand together, in order of arrival
    class INTEGER NOT NULL,
    state TEXT NOT NULL,
    due INTEGER,                    -- of a deferred one; a queued one is due at once
    touched INTEGER NOT NULL,       -- when it was accepted or last leased
    base REAL NOT NULL,             -- its class's usable seconds when its age was zero
    target TEXT NOT NULL,
    original TEXT NOT NULL,
    kind TEXT NOT NULL,
    domain TEXT NOT NULL,
    source TEXT NOT NULL,
    notify INTEGER,
    orcpt TEXT NOT NULL,
    reported INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL DEFAULT 0,
    last_attempt_at INTEGER,
    status_code INTEGER,
    status_enhanced TEXT,
    status_text TEXT,
    last_route TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL
) STRICT;

-- Each of these holds the recipients of one state alone, so that a step touches few of them. The row id at the
-- end of each entry is the order of arrival.
CREATE INDEX queued_by_class ON recipient (class) WHERE state = 'queued';
CREATE INDEX queued_by_domain ON recipient (class, domain) WHERE state = 'queued';
CREATE INDEX deferred_by_due ON recipient (class, due) WHERE state = 'deferred';
CREATE INDEX deferred_by_touch ON recipient (class, touched) WHERE state = 'deferred';
CREATE INDEX deferred_by_domain ON recipient (class, domain, due) WHERE state = 'deferred';
CREATE INDEX deferred_by_domain_and_touch ON recipient (class, domain, touched) WHERE state = 'deferred';
CREATE INDEX held_by_class ON recipient (class) WHERE state = 'held';

-- Who works on what. A row here and the state 'leased' come and go together.
CREATE TABLE lease (
    recipient INTEGER PRIMARY KEY,
    worker TEXT NOT NULL,
    begun INTEGER NOT NULL DEFAULT 0,
    held TEXT                       -- the reason, when somebody held the recipient meanwhile
) STRICT;

-- The distinct sets of routes, each with the time in which one of them could be used.
CREATE TABLE class (
    id INTEGER PRIMARY KEY,
    value TEXT NOT NULL UNIQUE,     -- JSON
    usable_seconds REAL NOT NULL DEFAULT 0
) STRICT;

-- What happened, to messages that are gone as well.
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    queue_id TEXT NOT NULL,
    event TEXT NOT NULL,
    recipient TEXT NOT NULL,
    route TEXT NOT NULL,
    remote_host TEXT NOT NULL,
    status TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;

CREATE INDEX history_by_queue_id ON history (queue_id);

-- A few facts that outlive the process.
CREATE TABLE fact (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
