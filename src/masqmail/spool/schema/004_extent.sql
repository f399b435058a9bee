-- Where in the file of segments a body lies. One that is in no row of `content` and not here is a file in bodies/.
CREATE TABLE extent (
    message INTEGER PRIMARY KEY,
    position INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT;

-- For those of one segment, and for the sizes of all at the start.
CREATE INDEX extent_by_position ON extent (position, size_bytes);
