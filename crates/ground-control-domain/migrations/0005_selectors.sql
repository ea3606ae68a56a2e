-- Groups that choose their satellites by labels; an empty selector chooses none.
ALTER TABLE artifact_groups ADD COLUMN selector TEXT NOT NULL DEFAULT '';
-- A satellite is in a group because somebody said so by name, because the group's selector chooses it, or both.
ALTER TABLE group_members ADD COLUMN named BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE group_members ADD COLUMN selected BOOLEAN NOT NULL DEFAULT FALSE;
