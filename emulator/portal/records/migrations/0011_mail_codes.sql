-- The code that a mail brings: the mail goes when the code is used up or too old. Mails
-- from before are not known to bring one but by their subject.
ALTER TABLE mails ADD COLUMN code INTEGER;
CREATE INDEX mails_code ON mails (code) WHERE code IS NOT NULL;
CREATE INDEX mails_created ON mails (created);
DELETE FROM mails WHERE subject = 'Activation code';
