-- Times are seconds since 1970 in UTC. Columns named *_sealed are encrypted by the
-- key of the folder. A word that is one of few stands in a CHECK.

CREATE TABLE issuers (
	position    INTEGER PRIMARY KEY,
	certificate BLOB    NOT NULL,
	key_sealed  BLOB    NOT NULL,
	ready       INTEGER NOT NULL CHECK (ready IN (0, 1)),
	licences    INTEGER NOT NULL CHECK (licences >= 0)
) STRICT;

CREATE TABLE chips (
	id              TEXT PRIMARY KEY,
	blocked_updates INTEGER NOT NULL DEFAULT 0 CHECK (blocked_updates BETWEEN 0 AND 5)
) STRICT;

-- The identities of a chip in their order. All but the last are superseded.
CREATE TABLE devices (
	chip       TEXT    NOT NULL REFERENCES chips (id),
	position   INTEGER NOT NULL,
	name       TEXT    NOT NULL,
	path       TEXT    NOT NULL,
	firmware   TEXT    NOT NULL,
	superseded INTEGER NOT NULL CHECK (superseded IN (0, 1)),
	PRIMARY KEY (chip, position)
) STRICT;
CREATE INDEX devices_path ON devices (path);

-- Updates that have begun and not ended.
CREATE TABLE updates (
	chip         TEXT PRIMARY KEY REFERENCES chips (id),
	old_name     TEXT    NOT NULL,
	old_path     TEXT    NOT NULL,
	old_firmware TEXT    NOT NULL,
	firmware     TEXT    NOT NULL,
	blocked      INTEGER NOT NULL CHECK (blocked IN (0, 1)),
	issuer       TEXT    NOT NULL,
	name         TEXT    NOT NULL UNIQUE,
	certificate  BLOB
) STRICT;

-- Every device name that was ever given, so that none is given twice.
CREATE TABLE names (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;

CREATE TABLE accounts (
	id              INTEGER PRIMARY KEY AUTOINCREMENT,
	email           TEXT    NOT NULL UNIQUE COLLATE NOCASE,
	created         INTEGER NOT NULL,
	notify_requests INTEGER NOT NULL DEFAULT 0 CHECK (notify_requests IN (0, 1)),
	notify_security INTEGER NOT NULL DEFAULT 0 CHECK (notify_security IN (0, 1))
) STRICT;

-- A card that somebody logged in with or registered. One path is registered by one
-- account at a time.
CREATE TABLE tokens (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	path       TEXT    NOT NULL,
	name       TEXT    NOT NULL,
	chip       TEXT,
	public_key BLOB    NOT NULL,
	firmware   TEXT    NOT NULL,
	account    INTEGER REFERENCES accounts (id),
	status     TEXT    NOT NULL CHECK (status IN ('active', 'superseded', 'removed')),
	registered INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX tokens_active ON tokens (path) WHERE status = 'active';
CREATE INDEX tokens_account ON tokens (account);

-- Who may ask for and hold certificates: persons, systems and trust centers.
CREATE TABLE subjects (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	kind    TEXT    NOT NULL CHECK (kind IN ('person', 'system', 'trust center')),
	name    TEXT    NOT NULL,
	private INTEGER NOT NULL DEFAULT 0 CHECK (private IN (0, 1)),
	account INTEGER REFERENCES accounts (id),
	created INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX subjects_name ON subjects (kind, name);

-- Roles of the portal have no subject, those of a trust center have it.
CREATE TABLE roles (
	account INTEGER NOT NULL REFERENCES accounts (id),
	role    TEXT    NOT NULL,
	subject INTEGER REFERENCES subjects (id)
) STRICT;
CREATE UNIQUE INDEX roles_once ON roles (account, role, COALESCE(subject, 0));

CREATE TABLE sessions (
	id_hash    BLOB PRIMARY KEY,
	ram_hash   BLOB    NOT NULL UNIQUE,
	state      TEXT    NOT NULL,
	token      INTEGER REFERENCES tokens (id),
	account    INTEGER REFERENCES accounts (id),
	created    INTEGER NOT NULL,
	expires    INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_expires ON sessions (expires);

-- Activation codes that wait for their entry.
CREATE TABLE codes (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	purpose    TEXT    NOT NULL,
	subject    TEXT    NOT NULL,
	email      TEXT    NOT NULL,
	code_hash  BLOB    NOT NULL,
	tries_left INTEGER NOT NULL CHECK (tries_left >= 0),
	expires    INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX codes_subject ON codes (purpose, subject);

-- Mail to send, and mail that was sent.
CREATE TABLE mails (
	id        INTEGER PRIMARY KEY AUTOINCREMENT,
	recipient TEXT    NOT NULL,
	subject   TEXT    NOT NULL,
	body      TEXT    NOT NULL,
	created   INTEGER NOT NULL,
	sent      INTEGER
) STRICT;

CREATE TABLE requests (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	type    TEXT    NOT NULL,
	state   TEXT    NOT NULL,
	account INTEGER REFERENCES accounts (id),
	subject INTEGER REFERENCES subjects (id),
	token   INTEGER REFERENCES tokens (id),
	chip    TEXT,
	data    TEXT    NOT NULL DEFAULT '{}',
	created INTEGER NOT NULL,
	changed INTEGER NOT NULL
) STRICT;
CREATE INDEX requests_account ON requests (account);
CREATE INDEX requests_token ON requests (token) WHERE token IS NOT NULL;
CREATE INDEX requests_chip ON requests (chip) WHERE chip IS NOT NULL;

CREATE TABLE request_log (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	request INTEGER NOT NULL REFERENCES requests (id),
	at      INTEGER NOT NULL,
	account INTEGER REFERENCES accounts (id),
	state   TEXT    NOT NULL,
	text    TEXT    NOT NULL
) STRICT;
CREATE INDEX request_log_request ON request_log (request);

-- Certification authorities of X.509: the developer network's and those of trust
-- centers.
CREATE TABLE authorities (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	subject     INTEGER REFERENCES subjects (id),
	name        TEXT    NOT NULL,
	certificate BLOB    NOT NULL,
	key_sealed  BLOB    NOT NULL,
	crl_number  INTEGER NOT NULL DEFAULT 0,
	crl         BLOB
) STRICT;

CREATE TABLE certificates (
	id          INTEGER PRIMARY KEY AUTOINCREMENT,
	request     INTEGER REFERENCES requests (id),
	authority   INTEGER NOT NULL REFERENCES authorities (id),
	serial      BLOB    NOT NULL,
	certificate BLOB    NOT NULL,
	issued      INTEGER NOT NULL,
	accepted    INTEGER,
	revoked     INTEGER,
	reason      INTEGER,
	UNIQUE (authority, serial)
) STRICT;

-- Who did what with which card.
CREATE TABLE audit (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	at      INTEGER NOT NULL,
	account INTEGER,
	token   TEXT,
	action  TEXT    NOT NULL,
	object  TEXT    NOT NULL DEFAULT '',
	detail  TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
CREATE TRIGGER audit_remains BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is not changed'); END;
