-- The cards that hold the keys of a trust center. A card is in one, and need not be
-- anybody's: with public key authentication alone it has no user PIN to log in with.
CREATE TABLE center_tokens (
	token   INTEGER PRIMARY KEY REFERENCES tokens (id),
	subject INTEGER NOT NULL REFERENCES subjects (id),
	added   INTEGER NOT NULL
) STRICT;
CREATE INDEX center_tokens_subject ON center_tokens (subject);

-- What the next card that connects in a session is for, in which trust center, and the
-- token that it unlocks; and which card was identified there.
ALTER TABLE sessions ADD COLUMN awaits TEXT NOT NULL DEFAULT '' CHECK (awaits IN ('', 'identify', 'authenticate'));
ALTER TABLE sessions ADD COLUMN center INTEGER REFERENCES subjects (id);
ALTER TABLE sessions ADD COLUMN unlocks INTEGER REFERENCES tokens (id);
ALTER TABLE sessions ADD COLUMN identified INTEGER REFERENCES tokens (id);
