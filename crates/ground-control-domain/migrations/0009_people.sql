-- Tokens that people make for programs; kept as keyed hashes. Scopes are words with spaces between them.
CREATE TABLE api_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    last_used_at BIGINT,
    UNIQUE (user_id, name)
);
CREATE INDEX api_tokens_by_end ON api_tokens (expires_at);

-- How much of a limit has been used: the moment at which it is whole again. Subjects are keyed hashes.
CREATE TABLE rate_limits (
    subject TEXT NOT NULL PRIMARY KEY,
    whole_at BIGINT NOT NULL
);
CREATE INDEX rate_limits_by_time ON rate_limits (whole_at);
