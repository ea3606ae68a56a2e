-- What only one replica does at a time, and until when it is that one's. The row stays when a lease ends.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL
);
