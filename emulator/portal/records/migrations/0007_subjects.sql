-- Who is no administrator sees their own systems and themselves among ten thousand.
CREATE INDEX subjects_account ON subjects (account);
