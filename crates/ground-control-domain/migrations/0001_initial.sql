-- Ground Control's tables, for SQLite and PostgreSQL alike.
--
-- Identifiers are UUIDv7 as text, times are milliseconds since the epoch, documents are JSON as text. Migrations only
-- ever add (a column with a default, a table, an index); what is no longer used goes one release later, so that an
-- older program still works on a newer database while replicas are exchanged.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    username TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    token_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

CREATE TABLE login_failures (
    subject TEXT NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    locked_until BIGINT
);
CREATE INDEX login_failures_by_time ON login_failures (last_at);

CREATE TABLE configs (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE artifact_groups (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- The list of a group, row by row as it was given: `tags` and `labels` are JSON lists, an empty digest is none.
CREATE TABLE group_artifacts (
    group_id TEXT NOT NULL REFERENCES artifact_groups (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    repository TEXT NOT NULL,
    tags TEXT NOT NULL,
    labels TEXT NOT NULL,
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    deleted BOOLEAN NOT NULL,
    PRIMARY KEY (group_id, ordinal)
);

-- A deleted satellite keeps its row for the audit, without groups, configuration, tokens and robot.
CREATE TABLE satellites (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    region TEXT NOT NULL,
    state TEXT NOT NULL,
    config_id TEXT REFERENCES configs (id),
    heartbeat_interval TEXT,
    last_seen BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);
CREATE UNIQUE INDEX satellites_by_name ON satellites (name) WHERE state <> 'deleted';
CREATE INDEX satellites_by_state ON satellites (state, name);
CREATE INDEX satellites_by_config ON satellites (config_id);

CREATE TABLE group_members (
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    group_id TEXT NOT NULL REFERENCES artifact_groups (id) ON DELETE CASCADE,
    joined_at BIGINT NOT NULL,
    PRIMARY KEY (satellite_id, group_id)
);
CREATE INDEX group_members_by_group ON group_members (group_id, satellite_id);

-- One-time registration tokens. Claimed: by a nonce or, in the older form, by a source address; closed: no answer any more.
CREATE TABLE ztr_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    attempted_at BIGINT,
    claimed_at BIGINT,
    nonce_hash TEXT,
    source_address TEXT,
    closed_at BIGINT
);
CREATE INDEX ztr_tokens_by_satellite ON ztr_tokens (satellite_id);

-- The credentials of a satellite; the previous secret is good until the present one is used.
CREATE TABLE robots (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    secret_hash TEXT NOT NULL,
    previous_secret_hash TEXT,
    rotated_at BIGINT NOT NULL
);

-- The latest report of a satellite, without its images; `images_hash` tells whether their list has changed.
CREATE TABLE heartbeats (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    received_at BIGINT NOT NULL,
    reports BIGINT NOT NULL,
    report TEXT NOT NULL,
    images_hash TEXT NOT NULL
);

-- A ring of the last reports: slot = reports modulo the ring's size, so that nothing ever has to be deleted.
CREATE TABLE heartbeat_history (
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    slot BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    report TEXT NOT NULL,
    PRIMARY KEY (satellite_id, slot)
);

CREATE TABLE cached_images (
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    reference TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    PRIMARY KEY (satellite_id, reference)
);
CREATE INDEX cached_images_by_digest ON cached_images (digest);

-- Intents to publish, one per document: a further change takes the place of the one that waits.
CREATE TABLE outbox (
    document TEXT NOT NULL PRIMARY KEY,
    publish_order BIGINT NOT NULL,
    change_id TEXT NOT NULL,
    verify BOOLEAN NOT NULL,
    enqueued_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    last_error TEXT
);
CREATE INDEX outbox_by_due ON outbox (publish_order, due_at);

-- What the registry holds; an empty digest: removed. The generation goes on counting if the name comes back.
CREATE TABLE published (
    document TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL,
    generation BIGINT NOT NULL,
    published_at BIGINT NOT NULL
);

CREATE TABLE superseded (
    document TEXT NOT NULL,
    digest TEXT NOT NULL,
    remove_at BIGINT NOT NULL,
    PRIMARY KEY (document, digest)
);
CREATE INDEX superseded_by_time ON superseded (remove_at);
