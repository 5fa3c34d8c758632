-- A session that a card has logged in to is of use when it has got a new cookie.
ALTER TABLE sessions ADD COLUMN renewed INTEGER NOT NULL DEFAULT 0 CHECK (renewed IN (0, 1));
