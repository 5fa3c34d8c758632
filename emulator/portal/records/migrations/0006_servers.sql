-- The portal's own certificates for TLS, with their keys. hosts are the names in it, with
-- blanks between.
CREATE TABLE servers (
	certificate INTEGER PRIMARY KEY REFERENCES certificates (id),
	hosts       TEXT    NOT NULL,
	key_sealed  BLOB    NOT NULL
) STRICT;
