-- The audit: who changed what, and who was refused.
--
-- Numbers are taken under the lock of the one row of `audit_sequence` and held to the end of the transaction: a row is seen
-- only after all with smaller numbers, and there are no gaps but those of rows that were removed for their age.
CREATE TABLE audit_sequence (
    name TEXT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
);
INSERT INTO audit_sequence (name, last) VALUES ('audit', 0);

-- `folded`: how many equal ones this row stands for. `details` is JSON.
CREATE TABLE audit_log (
    sequence BIGINT NOT NULL PRIMARY KEY,
    recorded_at BIGINT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    source TEXT NOT NULL,
    request_id TEXT NOT NULL,
    authenticated_by TEXT NOT NULL,
    folded BIGINT NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX audit_log_by_time ON audit_log (recorded_at);
CREATE INDEX audit_log_by_actor ON audit_log (actor, sequence);
CREATE INDEX audit_log_by_action ON audit_log (action, sequence);
CREATE INDEX audit_log_by_subject ON audit_log (subject, sequence);

-- How far each sink has got. Who holds the lease sends; `lost` counts rows that were gone before they were sent.
CREATE TABLE audit_cursors (
    sink TEXT NOT NULL PRIMARY KEY,
    sequence BIGINT NOT NULL,
    lost BIGINT NOT NULL,
    holder TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);
