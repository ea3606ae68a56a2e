-- What is published, in the order in which it was: a counter that every publication and every shutting out takes the next
-- number of, last in its transaction, so that numbers are seen in their order.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('changes', 0);

-- `number`: of the counter, at the document's last publication or removal. `numbered`: the generation that the number
-- belongs to; where it is another one, an older program has published since. `names`: what a satellite's document names,
-- as JSON.
ALTER TABLE published ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE published ADD COLUMN numbered BIGINT NOT NULL DEFAULT 0;
ALTER TABLE published ADD COLUMN names TEXT NOT NULL DEFAULT '';
CREATE INDEX published_by_number ON published (number);

-- The number at which a satellite was revoked or deleted last.
ALTER TABLE satellites ADD COLUMN shut_out BIGINT NOT NULL DEFAULT 0;
CREATE INDEX satellites_by_shut_out ON satellites (shut_out) WHERE shut_out > 0;

-- The list that a group's published document holds, without what is marked as deleted; `tags` is a JSON list, an empty
-- digest is none.
CREATE TABLE published_artifacts (
    group_id TEXT NOT NULL REFERENCES artifact_groups (id) ON DELETE CASCADE,
    ordinal BIGINT NOT NULL,
    repository TEXT NOT NULL,
    tags TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (group_id, ordinal)
);
CREATE INDEX published_artifacts_by_digest ON published_artifacts (group_id, digest);

-- What a satellite said of artifacts that are not there yet: `fetching` or `failed`.
CREATE TABLE pending_artifacts (
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (satellite_id, digest, state)
);
CREATE INDEX cached_images_by_satellite ON cached_images (satellite_id, digest);

-- Desired digests that a satellite has not, and digests that it has and nobody desires.
CREATE TABLE satellite_drift (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    missing BIGINT NOT NULL,
    excess BIGINT NOT NULL,
    drift BOOLEAN NOT NULL
);
CREATE INDEX satellite_drift_by_drift ON satellite_drift (drift, satellite_id);

-- How far a group's published list is at a satellite: `current`, `fetching`, `failed`, `waiting`; empty before it was looked at.
ALTER TABLE group_members ADD COLUMN progress TEXT NOT NULL DEFAULT '';
CREATE INDEX group_members_by_progress ON group_members (group_id, progress, satellite_id);

-- Groups whose members are to be looked at again, page by page: those after `after` are left.
CREATE TABLE drift_work (
    group_id TEXT NOT NULL PRIMARY KEY REFERENCES artifact_groups (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    after TEXT NOT NULL
);

-- `content`: tells whether a report says anything but that the satellite is still there. `inventory`: the digest that the
-- satellite gave with the list of images that is kept. `kept`, `kept_at`: how many reports the history took, and when the
-- last.
ALTER TABLE heartbeats ADD COLUMN content TEXT NOT NULL DEFAULT '';
ALTER TABLE heartbeats ADD COLUMN inventory TEXT NOT NULL DEFAULT '';
ALTER TABLE heartbeats ADD COLUMN kept BIGINT NOT NULL DEFAULT 0;
ALTER TABLE heartbeats ADD COLUMN kept_at BIGINT NOT NULL DEFAULT 0;
