-- name: queued
SELECT id FROM recipient WHERE state = 'queued' AND class = :class ORDER BY id;

-- name: due
SELECT id FROM recipient WHERE state = 'deferred' AND class = :class AND due <= :now ORDER BY due;

-- name: untouched
SELECT id FROM recipient WHERE state = 'deferred' AND class = :class AND touched < :woken_at ORDER BY touched;

-- name: queued_in_domain
SELECT id FROM recipient WHERE state = 'queued' AND class = :class AND domain = :domain ORDER BY id;

-- name: due_in_domain
SELECT id FROM recipient WHERE state = 'deferred' AND class = :class AND domain = :domain AND due <= :now
ORDER BY due;

-- name: untouched_in_domain
SELECT id FROM recipient WHERE state = 'deferred' AND class = :class AND domain = :domain AND touched < :woken_at ORDER BY touched;

-- name: next_queued_domain
SELECT domain FROM recipient WHERE state = 'queued' AND class = :class AND domain > :after ORDER BY domain LIMIT 1;

-- name: next_deferred_domain
SELECT domain, due FROM recipient WHERE state = 'deferred' AND class = :class AND domain > :after
ORDER BY domain, due LIMIT 1;

-- name: domains_due
SELECT domain FROM recipient WHERE state = 'deferred' AND class = :class AND due <= :now ORDER BY due;

-- name: domains_untouched
SELECT domain FROM recipient WHERE state = 'deferred' AND class = :class AND touched < :woken_at ORDER BY touched;

-- name: next_due
SELECT due FROM recipient WHERE state = 'deferred' AND class = :class AND due > :after ORDER BY due LIMIT 1;

-- name: get_wanted
SELECT recipient.*
FROM json_each(:keys) CROSS JOIN recipient ON recipient.id BETWEEN value << 20 AND (value << 20) + 1048575
WHERE (state = 'queued' OR state = 'deferred' AND (due <= :now OR touched < :woken_at))
AND (:domain IS NULL OR domain = :domain);

-- name: get_sizes
SELECT value, size_bytes FROM json_each(?) CROSS JOIN message ON message.key = value;

-- name: mark_leased
UPDATE recipient SET state = 'leased', due = NULL, touched = :touched
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: add_leases
INSERT INTO lease (recipient, worker) SELECT value, :worker FROM json_each(:ids);

-- name: begin
UPDATE lease SET begun = 1 WHERE recipient IN (SELECT value FROM json_each(?));

-- name: get_abandoned
SELECT lease.recipient, lease.begun, lease.held, recipient.class, recipient.target, recipient.reason, message.queue_id
FROM lease
JOIN recipient ON recipient.id = lease.recipient
JOIN message ON message.key = lease.recipient >> 20
ORDER BY lease.recipient;

-- name: give_back
UPDATE recipient SET state = ?, reason = ? WHERE id = ?;

-- name: forget_leases
DELETE FROM lease;

-- name: clamp_due
UPDATE recipient SET due = :now WHERE state = 'deferred' AND class = :class AND due > :latest;
