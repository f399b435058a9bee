-- name: get_tally
SELECT class, counted, number FROM tally;

-- name: set_number
REPLACE INTO tally VALUES (?, ?, ?);

-- name: forget_tally
DELETE FROM tally;

-- name: has_message
SELECT EXISTS (SELECT 1 FROM message);

-- name: has_queued
SELECT EXISTS (SELECT 1 FROM recipient WHERE state = 'queued' AND class = ?);

-- name: has_deferred
SELECT EXISTS (SELECT 1 FROM recipient WHERE state = 'deferred' AND class = ?);

-- name: has_held
SELECT EXISTS (SELECT 1 FROM recipient WHERE state = 'held' AND class = ?);

-- name: count_messages
SELECT count(*), coalesce(sum(size_bytes), 0) FROM message;

-- name: count_queued
SELECT class, count(*) FROM recipient WHERE state = 'queued' GROUP BY class;

-- name: count_deferred
SELECT class, count(*) FROM recipient WHERE state = 'deferred' GROUP BY class;

-- name: count_held
SELECT class, count(*) FROM recipient WHERE state = 'held' GROUP BY class;

-- name: count_leased
SELECT class, count(*) FROM lease JOIN recipient ON recipient.id = lease.recipient GROUP BY class;

-- name: get_segments
SELECT
    position / :segment_bytes,
    sum((size_bytes + :block_bytes - 1) / :block_bytes * :block_bytes),
    max(position + size_bytes)
FROM extent GROUP BY 1;

-- name: get_extents_between
SELECT * FROM extent WHERE position >= ? AND position < ?;

-- name: move_extent
UPDATE extent SET position = ? WHERE message = ?;

-- name: last_number
SELECT max((SELECT coalesce(max(id), 0) FROM history), (SELECT coalesce(max(key), 0) FROM message));

-- name: has_body_file
SELECT 1 FROM message JOIN content ON content.message = message.key WHERE queue_id = ? AND body IS NULL;
