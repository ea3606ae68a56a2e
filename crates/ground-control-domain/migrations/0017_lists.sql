-- Lists of satellites in the order of their names, whatever chooses them: what says something of a satellite has the
-- satellite's name beside it, so that an index gives its rows in that order. Names never change. Empty: an older program
-- wrote the row and its name is to be filled in.
ALTER TABLE group_members ADD COLUMN satellite TEXT NOT NULL DEFAULT '';
UPDATE group_members SET satellite = (SELECT s.name FROM satellites s WHERE s.id = group_members.satellite_id);
CREATE INDEX group_members_listed ON group_members (group_id, satellite, progress, satellite_id);
CREATE INDEX group_members_unlisted ON group_members (satellite_id) WHERE satellite = '';

ALTER TABLE satellite_labels ADD COLUMN satellite TEXT NOT NULL DEFAULT '';
UPDATE satellite_labels SET satellite = (SELECT s.name FROM satellites s WHERE s.id = satellite_labels.satellite_id);
CREATE INDEX satellite_labels_listed ON satellite_labels (name, satellite, value, satellite_id);
CREATE INDEX satellite_labels_unlisted ON satellite_labels (satellite_id) WHERE satellite = '';

ALTER TABLE satellite_drift ADD COLUMN satellite TEXT NOT NULL DEFAULT '';
UPDATE satellite_drift SET satellite = (SELECT s.name FROM satellites s WHERE s.id = satellite_drift.satellite_id);
CREATE INDEX satellite_drift_listed ON satellite_drift (drift, satellite, satellite_id);
CREATE INDEX satellite_drift_unlisted ON satellite_drift (satellite_id) WHERE satellite = '';

-- All that a list by state or region reads of the satellites themselves.
CREATE INDEX satellites_listed ON satellites (name, state, region, id) WHERE state <> 'deleted';
CREATE INDEX satellites_in_region ON satellites (region, name, state, id) WHERE state <> 'deleted';
CREATE INDEX satellites_in_state ON satellites (state, name, region, id) WHERE state <> 'deleted';
