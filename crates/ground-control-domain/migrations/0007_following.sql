-- Groups that follow the registry.

-- A rule in place of tags (JSON; empty: none), and the platforms that are wanted (a JSON list).
ALTER TABLE group_artifacts ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE group_artifacts ADD COLUMN platforms TEXT NOT NULL DEFAULT '[]';
CREATE INDEX group_artifacts_by_repository ON group_artifacts (repository, group_id);

-- The repositories that groups name: when each is looked at next, by whom it is claimed, what its last look failed with.
CREATE TABLE followed_repositories (
    repository TEXT NOT NULL PRIMARY KEY,
    change_id TEXT NOT NULL,
    due_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    looked_at BIGINT,
    last_error TEXT
);
CREATE INDEX followed_repositories_by_due ON followed_repositories (due_at);

-- What tags and rules stood for when the registry was last asked (`resolved`: a JSON list), and why later looks found
-- nothing.
CREATE TABLE resolutions (
    repository TEXT NOT NULL,
    selector TEXT NOT NULL,
    resolved TEXT NOT NULL,
    resolved_at BIGINT,
    unresolved TEXT,
    unresolved_since BIGINT,
    PRIMARY KEY (repository, selector)
);

-- The secret with which a replication adapter adds to a group, as its keyed hash.
CREATE TABLE replication_secrets (
    group_id TEXT NOT NULL PRIMARY KEY REFERENCES artifact_groups (id) ON DELETE CASCADE,
    secret_hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    used_at BIGINT
);

-- The policy by which the registry tells what happens in a project that groups name.
CREATE TABLE webhook_policies (
    project TEXT NOT NULL PRIMARY KEY,
    policy_id BIGINT,
    state TEXT NOT NULL,
    reason TEXT,
    due_at BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    checked_at BIGINT
);
CREATE INDEX webhook_policies_by_due ON webhook_policies (due_at);
