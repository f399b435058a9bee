-- name: get_message
SELECT message.*, content.header, content.body
FROM message JOIN content ON content.message = message.key WHERE message.key = ?;

-- name: get_message_without_body
SELECT message.*, coalesce(content.header, x''), x''
FROM message LEFT JOIN content ON content.message = message.key WHERE message.key = ?;

-- name: get_extent
SELECT position, size_bytes FROM extent WHERE message = ?;

-- name: get_recipients
SELECT * FROM recipient WHERE id BETWEEN ? AND ? ORDER BY id;

-- name: get_key
SELECT key FROM message WHERE queue_id = ?;

-- name: get_past_key
SELECT id FROM history WHERE queue_id = ? AND event = 'received';

-- name: get_page
SELECT message.*, x'', x'' FROM message WHERE key > :after ORDER BY key LIMIT :limit;

-- name: get_page_of_owner
SELECT message.*, x'', x'' FROM message WHERE owner_uid = :owner_uid AND key > :after ORDER BY key LIMIT :limit;
