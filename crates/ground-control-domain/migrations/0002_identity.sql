-- Identities: how satellites are registered with whoever vouches for them, and what the built-in authority keeps.

-- A new one for every life of a name: what was issued to an earlier one is worth nothing. Part of the serial number of
-- every SVID that the built-in authority issues.
ALTER TABLE satellites ADD COLUMN identity_epoch BIGINT NOT NULL DEFAULT 0;
-- When silence makes it stale: three of its own intervals after its last report.
ALTER TABLE satellites ADD COLUMN stale_at BIGINT;
CREATE INDEX satellites_by_silence ON satellites (state, stale_at);
-- Deleted rows are looked at, too: such a name does not come back by itself.
CREATE INDEX satellites_by_any_name ON satellites (name);

-- How a satellite's identity was registered. Not active: revoked or deleted since. `withdraw_at`: entries and agents are
-- still to be removed, at the next try then.
CREATE TABLE registrations (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    attestation_method TEXT NOT NULL,
    parent_id TEXT NOT NULL,
    selectors TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    active BOOLEAN NOT NULL DEFAULT TRUE,
    withdraw_at BIGINT,
    withdraw_attempts BIGINT NOT NULL DEFAULT 0,
    withdraw_error TEXT
);
CREATE INDEX registrations_by_parent ON registrations (parent_id);
CREATE INDEX registrations_by_withdrawal ON registrations (withdraw_at);

-- The certificate authorities of the built-in authority, keys sealed under the server key.
CREATE TABLE authorities (
    id TEXT NOT NULL PRIMARY KEY,
    trust_domain TEXT NOT NULL,
    certificate TEXT NOT NULL,
    sealed_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    signs_from BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (trust_domain, signs_from)
);

-- One-time join tokens. Claimed: by a public key (base64 of its SubjectPublicKeyInfo); closed: no answer any more.
CREATE TABLE join_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    attempted_at BIGINT,
    claimed_at BIGINT,
    public_key TEXT,
    closed_at BIGINT
);
CREATE INDEX join_tokens_by_satellite ON join_tokens (satellite_id);

-- The keys that a satellite's SVIDs are for (base64 of the SubjectPublicKeyInfo); the previous one is good until the
-- present one is used.
CREATE TABLE identity_keys (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    public_key TEXT NOT NULL,
    previous_key TEXT,
    issued_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE renewal_nonces (
    nonce_hash TEXT NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX renewal_nonces_by_end ON renewal_nonces (expires_at);

-- Node agents that attested to the built-in authority.
CREATE TABLE node_agents (
    spiffe_id TEXT NOT NULL PRIMARY KEY,
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    public_key TEXT NOT NULL,
    previous_key TEXT,
    attested_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    banned_at BIGINT
);
CREATE INDEX node_agents_by_satellite ON node_agents (satellite_id);
