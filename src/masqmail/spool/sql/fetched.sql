-- name: put
REPLACE INTO fetch_mark VALUES (?, ?, ?, ?, ?, ?);

-- name: forget
DELETE FROM fetch_mark WHERE account = ? AND folder = ? AND uid = ?;

-- name: get_page
SELECT folder, uid, fate, at, size_bytes FROM fetch_mark
WHERE account = ? AND (folder, uid) > (?, ?) ORDER BY folder, uid LIMIT ?;
