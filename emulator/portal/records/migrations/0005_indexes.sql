-- What is looked for at every page, log-in and step, where there are ten thousand
-- accounts.
CREATE INDEX requests_subject ON requests (subject) WHERE subject IS NOT NULL;
CREATE INDEX certificates_request ON certificates (request);
CREATE INDEX authorities_subject ON authorities (COALESCE(subject, 0));
CREATE INDEX attempts_at ON attempts (at);
CREATE INDEX subjects_any_case ON subjects (kind, name COLLATE NOCASE);
CREATE INDEX roles_subject ON roles (COALESCE(subject, 0), role);
