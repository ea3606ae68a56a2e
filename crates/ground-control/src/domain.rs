//! What Ground Control knows and decides, from the crate that is shared with the databases.

pub use ground_control_domain::{
    ConfigId, Entity, GroupId, MAX_PAGE_SIZE, Page, Paged, SatelliteId, StoreError, StoreResult, TokenId,
    UserId, audit, backup, change, config, desired, document, external, group, harbor, heartbeat,
    idempotency, identity, label, limit, replication, resolution, revision, rollout, rule, satellite, secret,
    store, token, user, version, webhook, ztr,
};
