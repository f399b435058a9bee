-- What stands in the queue, counted: the counts are there at once when a long queue is opened.
CREATE TABLE tally (
    class INTEGER NOT NULL,         -- 0 counts all messages
    counted TEXT NOT NULL,          -- 'messages' and 'bytes', or recipients by their state; ended ones do not count
    number INTEGER NOT NULL,
    PRIMARY KEY (class, counted)
) STRICT, WITHOUT ROWID;

INSERT INTO tally SELECT 0, 'messages', count(*) FROM message;
INSERT INTO tally SELECT 0, 'bytes', coalesce(sum(size_bytes), 0) FROM message;
INSERT INTO tally SELECT class, 'queued', count(*) FROM recipient WHERE state = 'queued' GROUP BY class;
INSERT INTO tally SELECT class, 'deferred', count(*) FROM recipient WHERE state = 'deferred' GROUP BY class;
INSERT INTO tally SELECT class, 'held', count(*) FROM recipient WHERE state = 'held' GROUP BY class;
INSERT INTO tally SELECT class, 'leased', count(*) FROM lease JOIN recipient ON recipient.id = lease.recipient
GROUP BY class;

-- What a local user finds who may see only messages of theirs.
CREATE INDEX message_by_owner ON message (owner_uid) WHERE owner_uid IS NOT NULL;
