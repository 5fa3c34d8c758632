-- What a mail says may be an activation code, so it is sealed. due is when the next
-- attempt to send it is, NULL when there will be none.
DROP TABLE mails;
CREATE TABLE mails (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	recipient   TEXT    NOT NULL,
	subject     TEXT    NOT NULL,
	body_sealed BLOB    NOT NULL,
	created     INTEGER NOT NULL,
	due         INTEGER,
	tries       INTEGER NOT NULL DEFAULT 0,
	failed      TEXT    NOT NULL DEFAULT '',
	sent        INTEGER
) STRICT;
CREATE INDEX mails_due ON mails (due) WHERE sent IS NULL;

-- What was tried lately by whom, for the limits.
CREATE TABLE attempts (
	kind TEXT    NOT NULL,
	who  TEXT    NOT NULL,
	at   INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_who ON attempts (kind, who, at);

CREATE INDEX sessions_token ON sessions (token);
