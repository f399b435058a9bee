-- name: get_standing
SELECT recipient.id, class, state, reason, held
FROM recipient LEFT JOIN lease ON lease.recipient = recipient.id
WHERE recipient.id BETWEEN ? AND ?;

-- name: set_state
UPDATE recipient SET state = ?, due = NULL, reason = ? WHERE id = ?;

-- name: set_lease_hold
UPDATE lease SET held = ? WHERE recipient = ?;

-- name: get_oldest
SELECT received_at FROM message ORDER BY key LIMIT 1;
