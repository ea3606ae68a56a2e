-- Requests that make something, by the key that their caller gave them: made once, and answered again for a while.
CREATE TABLE idempotency_keys (
    caller TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    -- Who carries it out, and until when nobody else may begin.
    claim TEXT NOT NULL,
    claimed_until BIGINT NOT NULL,
    -- Set in the transaction of what was made.
    made BOOLEAN NOT NULL DEFAULT FALSE,
    -- 0 while there is no answer yet.
    status BIGINT NOT NULL DEFAULT 0,
    -- Sealed under the server key; empty where it is not kept (any more).
    answer TEXT NOT NULL DEFAULT '',
    answer_until BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (caller, key_hash)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (caller, created_at);
CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires_at);
