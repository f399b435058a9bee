-- name: add
INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: get
SELECT at, queue_id, event, recipient, route, remote_host, status, text
FROM history WHERE queue_id = ? ORDER BY id DESC LIMIT ?;

-- name: get_latest
SELECT at, queue_id, event, recipient, route, remote_host, status, text FROM history ORDER BY id DESC LIMIT ?;

-- name: get_end_of_slice
SELECT max(id) FROM (SELECT id FROM history WHERE id > ? ORDER BY id LIMIT ?);

-- name: trim
DELETE FROM history WHERE id BETWEEN :first AND :last AND at < :before
AND NOT EXISTS (SELECT 1 FROM message WHERE message.queue_id = history.queue_id);

-- name: remember
INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- name: recall
SELECT value FROM fact WHERE name = ?;
