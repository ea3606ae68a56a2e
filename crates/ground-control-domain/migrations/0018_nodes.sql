-- The nodes of satellites' clusters, written when the list is another one and not with each report. `nodes_digest`: by what
-- the satellite names the list that is kept; empty: it has none. An older program keeps the list within the report.
ALTER TABLE heartbeats ADD COLUMN nodes_digest TEXT NOT NULL DEFAULT '';
CREATE TABLE cluster_nodes (
    satellite_id TEXT NOT NULL PRIMARY KEY REFERENCES satellites (id),
    nodes TEXT NOT NULL
);
