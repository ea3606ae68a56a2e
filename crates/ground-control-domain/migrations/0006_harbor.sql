-- Where the central registry is Harbor: what is to be seen to for each satellite, and its robots.

-- One row for each satellite that ever needed a robot. It is due at `due_at` (null: nothing to do), and one replica holds it
-- until `claimed_until`. `asked` counts what may have changed what it needs, `settled` is the count that was last met.
-- `change_id` is the intent to publish that asked last. `failed_at`: it was given up for now, people have to look.
CREATE TABLE harbor_sites (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    due_at BIGINT,
    claimed_until BIGINT NOT NULL DEFAULT 0,
    asked BIGINT NOT NULL DEFAULT 1,
    settled BIGINT NOT NULL DEFAULT 0,
    change_id TEXT NOT NULL DEFAULT '',
    wants_fresh BOOLEAN NOT NULL DEFAULT FALSE,
    attempts BIGINT NOT NULL DEFAULT 0,
    error TEXT,
    error_since BIGINT,
    failed_at BIGINT
);
CREATE INDEX harbor_sites_by_time ON harbor_sites (due_at);
CREATE INDEX harbor_sites_by_failure ON harbor_sites (failed_at);

-- A robot, from the intent to make it to its end. `attempt` is the name that it is asked for by, `username` the one that Harbor
-- gave back. `tried`: a request to make it was sent, and its answer was not seen yet. The secret is sealed under the server key
-- until its use was seen. `projects` is a sorted JSON list.
CREATE TABLE harbor_robots (
    id TEXT NOT NULL PRIMARY KEY,
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    role TEXT NOT NULL,
    number BIGINT NOT NULL,
    attempt TEXT NOT NULL,
    tried BOOLEAN NOT NULL DEFAULT FALSE,
    gone BOOLEAN NOT NULL DEFAULT FALSE,
    harbor_id BIGINT,
    username TEXT,
    sealed_secret TEXT,
    secret_hash TEXT,
    projects TEXT NOT NULL DEFAULT '[]',
    begun_at BIGINT NOT NULL,
    created_at BIGINT,
    expires_at BIGINT,
    given_at BIGINT,
    used_at BIGINT
);
CREATE INDEX harbor_robots_by_satellite ON harbor_robots (satellite_id);
CREATE INDEX harbor_robots_by_username ON harbor_robots (username);
CREATE INDEX harbor_robots_by_role ON harbor_robots (role);

-- The projects that a group's satellites were last given. `waiting`: its document is held back until they have them.
CREATE TABLE harbor_groups (
    group_id TEXT NOT NULL PRIMARY KEY REFERENCES artifact_groups (id) ON DELETE CASCADE,
    projects TEXT NOT NULL,
    waiting BOOLEAN NOT NULL DEFAULT FALSE,
    changed_at BIGINT NOT NULL
);
