-- What people say of satellites, in Kubernetes' syntax; a deleted satellite has none.
CREATE TABLE satellite_labels (
    satellite_id TEXT NOT NULL REFERENCES satellites (id),
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (satellite_id, name)
);
CREATE INDEX satellite_labels_by_value ON satellite_labels (name, value, satellite_id);
CREATE INDEX satellites_by_region ON satellites (region, name);
