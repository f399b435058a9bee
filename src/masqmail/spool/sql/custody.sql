-- name: add_message
INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_content
INSERT INTO content VALUES (?, ?, ?);

-- name: add_extent
INSERT INTO extent VALUES (?, ?, ?);

-- name: add_recipient
INSERT INTO recipient (
    id, class, state, touched, base, target, original, kind, domain, source, notify, orcpt, reported,
    status_code, status_enhanced, status_text, reason
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: add_received
INSERT INTO history VALUES (?, ?, ?, 'received', '', '', '', '', ?);

-- name: get_standing
SELECT
    recipient.id, message.queue_id, message.size_bytes, content.body IS NULL,
    recipient.class, recipient.state, recipient.base, recipient.target, recipient.attempts, recipient.warned,
    recipient.last_attempt_at, recipient.status_code, recipient.status_enhanced, recipient.status_text,
    recipient.last_route, recipient.reason, lease.held
FROM json_each(?) CROSS JOIN recipient ON recipient.id = value
JOIN message ON message.key = recipient.id >> 20
LEFT JOIN content ON content.message = message.key
LEFT JOIN lease ON lease.recipient = recipient.id;

-- name: end_leases
DELETE FROM lease WHERE recipient IN (SELECT value FROM json_each(?));

-- name: update_recipient
UPDATE recipient SET
    class = ?, state = ?, due = ?, base = ?, attempts = ?, warned = ?, last_attempt_at = ?,
    status_code = ?, status_enhanced = ?, status_text = ?, last_route = ?, reason = ?
WHERE id = ?;

-- name: get_targets
SELECT id, kind, target FROM recipient WHERE id BETWEEN ? AND ?;

-- name: delete_recipient
DELETE FROM recipient WHERE id = ?;

-- name: get_states
SELECT id, class, state FROM recipient WHERE id BETWEEN ? AND ?;

-- name: get_unended
SELECT recipient.id
FROM json_each(?) CROSS JOIN recipient ON recipient.id BETWEEN value << 20 AND (value << 20) + 1048575
WHERE state NOT IN ('delivered', 'failed');

-- name: get_custody
SELECT key, size_bytes, body IS NULL FROM message LEFT JOIN content ON content.message = key WHERE queue_id = ?;

-- name: delete_leases
DELETE FROM lease WHERE recipient BETWEEN ? AND ?;

-- name: delete_recipients
DELETE FROM recipient WHERE id IN (
    SELECT recipient.id
    FROM json_each(?) CROSS JOIN recipient ON recipient.id BETWEEN value << 20 AND (value << 20) + 1048575
);

-- name: delete_content
DELETE FROM content WHERE message IN (SELECT value FROM json_each(?));

-- name: get_extents
SELECT * FROM extent WHERE message IN (SELECT value FROM json_each(?));

-- name: delete_extents
DELETE FROM extent WHERE message IN (SELECT value FROM json_each(?));

-- name: delete_messages
DELETE FROM message WHERE key IN (SELECT value FROM json_each(?));
