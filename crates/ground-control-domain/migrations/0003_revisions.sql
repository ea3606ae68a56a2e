-- The history of each group's list. `artifacts` is the whole list after the change and `difference` what the change did,
-- both JSON; the counts stand beside them so that a page of the history reads neither.
CREATE TABLE group_revisions (
    group_id TEXT NOT NULL REFERENCES artifact_groups (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    restored_from BIGINT,
    added BIGINT NOT NULL,
    removed BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    reordered BOOLEAN NOT NULL,
    artifacts TEXT NOT NULL,
    difference TEXT NOT NULL,
    PRIMARY KEY (group_id, number)
);
