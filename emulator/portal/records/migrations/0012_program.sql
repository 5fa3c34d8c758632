-- A session that a program began is told to that program alone, and no cookie.
ALTER TABLE sessions ADD COLUMN program INTEGER NOT NULL DEFAULT 0 CHECK (program IN (0, 1));
