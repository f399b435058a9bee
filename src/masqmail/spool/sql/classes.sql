-- name: get_classes
SELECT id, value, usable_seconds FROM class;

-- name: add_class
INSERT INTO class (value) VALUES (?) RETURNING id;

-- name: set_usable
UPDATE class SET usable_seconds = ? WHERE id = ?;

-- name: delete_class
DELETE FROM class WHERE id = ?;

-- name: some_queued
SELECT id FROM recipient WHERE state = 'queued' AND class = ? ORDER BY id LIMIT ?;

-- name: some_deferred
SELECT id FROM recipient WHERE state = 'deferred' AND class = ? ORDER BY due LIMIT ?;

-- name: some_held
SELECT id FROM recipient WHERE state = 'held' AND class = ? ORDER BY id LIMIT ?;

-- name: get_place
SELECT class, state, base FROM recipient WHERE id = ?;

-- name: set_place
UPDATE recipient SET class = ?, base = ? WHERE id = ?;
