-- What became of a mail for each recipient, so that one mailbox that is gone does not keep it from the others.
-- A mail without rows here was written by the last release: nobody has it yet, or everybody.
CREATE TABLE mail_recipient (
    mail_seq    BIGINT NOT NULL REFERENCES mail (seq) ON DELETE CASCADE,
    address     TEXT NOT NULL,               -- as it was set, with or without a name
    position    INTEGER NOT NULL,            -- from 0, in the order of the mail's header
    tries       INTEGER NOT NULL DEFAULT 0,  -- tries that were refused for now
    sent_us     BIGINT,
    refused_us  BIGINT,                      -- when it was refused for good
    last_error  TEXT,
    PRIMARY KEY (mail_seq, address)
);
