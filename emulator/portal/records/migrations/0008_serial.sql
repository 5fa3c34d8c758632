-- A program that shows a certificate is looked for among the revoked ones at every
-- request.
CREATE INDEX certificates_serial ON certificates (serial);
