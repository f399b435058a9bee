-- What we did with messages on servers that mail is fetched from. The mark of one that was taken is written with it.
CREATE TABLE fetch_mark (
    account TEXT NOT NULL,
    folder TEXT NOT NULL,           -- empty for POP3
    uid TEXT NOT NULL,
    fate TEXT NOT NULL,             -- a value of `fetchmark.FetchFate`
    at INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (account, folder, uid)
) STRICT, WITHOUT ROWID;
