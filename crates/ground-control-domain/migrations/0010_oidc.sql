-- Logins by OpenID Connect.

-- Who somebody is at a provider. The name of an account says nothing about that: whoever comes as (issuer, subject) is this
-- account, and nobody else is.
CREATE TABLE user_identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL UNIQUE REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    last_login_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);

-- Logins that began and wait for the provider's answer. What is secret of them (nonce, code verifier) is derived from the
-- state, of which only a hash is here. `cli_*`: the command line that asked for the login, where it was one.
CREATE TABLE oidc_logins (
    state_hash TEXT NOT NULL PRIMARY KEY,
    browser_hash TEXT NOT NULL,
    source TEXT NOT NULL,
    cli_port BIGINT,
    cli_challenge TEXT,
    cli_state TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX oidc_logins_by_source ON oidc_logins (source, created_at);
CREATE INDEX oidc_logins_by_age ON oidc_logins (created_at);

-- One-time codes for command lines, each bound to the challenge (RFC 7636) of the one that asked.
CREATE TABLE oidc_codes (
    code_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    challenge TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
