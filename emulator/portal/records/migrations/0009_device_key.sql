-- The key of each identity of a chip: a path can be another device's, too. It is NULL
-- where it was not kept.
ALTER TABLE devices ADD COLUMN public_key BLOB;
