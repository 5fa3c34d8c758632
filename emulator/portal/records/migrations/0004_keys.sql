-- The key of the device that an update replaces: a path can be another device's, too.
ALTER TABLE updates ADD COLUMN old_key BLOB;

-- A card that nobody has registered is looked for by its path.
CREATE INDEX tokens_path ON tokens (path);
