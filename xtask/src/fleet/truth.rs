//! Whether Ground Control knows its fleet after all that happened.

use std::time::Instant;

use oci::Digest;
use testbed::admin::Admin;
use testbed::{Error, Result};

use super::steady::everybody;
use super::world::World;
use crate::progress::Step;

const PAGE: usize = 100;
/// Satellites that are looked at one by one.
const SAMPLE: usize = 100;

/// Compares what Ground Control says of the fleet with the fleet.
pub(super) async fn check(admin: &Admin, world: &World, names: &[String], images: usize) -> Result<()> {
    let step = Step::begin("what Ground Control knows of the fleet");
    everybody(world, Instant::now(), |_| {}).await?;
    let mut online = 0;
    for page in 1..=names.len().div_ceil(PAGE) {
        let found = admin.page(&format!("/api/satellites?state=online&page={page}&page_size={PAGE}")).await?;
        online += found.items.as_array().map_or(0, Vec::len);
    }
    if online != names.len() {
        world.broke(format!("{online} of {} satellites that talk are online", names.len()));
    }
    let document: Option<Digest> = {
        let name = world.group.parse().map_err(|error| Error::Content(format!("{error}")))?;
        world.registry.digest(&fleet_protocol::state::group_repository(&name), "latest").await?
    };
    for (number, told) in world.all_told().enumerate().filter(|(_, told)| told.at.is_some()) {
        if told.desired.groups.get(&world.group).copied() != document {
            world.broke(format!("satellite {number} was not told of the group's present document"));
        }
    }
    let stride = (names.len() / SAMPLE).max(1);
    for name in names.iter().step_by(stride) {
        let found = admin.page(&format!("/api/satellites/{name}/images?page_size=1")).await?.total;
        if found != images as u64 {
            world.broke(format!("{name} has {images} images and is known to have {found}"));
        }
    }
    world.check()?;
    step.done(format!("{online} satellites online, with their images"));
    Ok(())
}
