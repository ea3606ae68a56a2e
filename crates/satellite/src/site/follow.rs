//! What keeps a site's plan in step with what groups want.

use blob_store::Store;
use oci::Reference;

use super::Site;
use super::destination::{Nodes, is_image, named};
use super::plan::Named;
use crate::delivery::{self, Offer, Surroundings};
use crate::names::Naming;

/// Keeps the nodes of a site as the groups want them, for as long as it is polled. Without a store, the site has a registry
/// of its own.
pub async fn deliver(site: Site, store: Option<Store>, around: Surroundings) {
    let nodes = Box::new(Nodes::new(site.clone(), store.clone()));
    tokio::join!(follow(site, store, around.clone()), delivery::follow(nodes, around));
}

/// Keeps the plan as the groups want it, offered or not, for as long as it is polled.
async fn follow(site: Site, store: Option<Store>, around: Surroundings) {
    let mut offers = around.offers.subscribe();
    let mut configs = around.config.subscribe();
    let mut states = around.vault.subscribe();
    loop {
        let offer = offers.borrow_and_update().clone();
        let effective = configs.borrow_and_update().clone();
        states.mark_unchanged();
        if let Some(offer) = offer {
            let (naming, store) = (around.naming(&effective), store.clone());
            let all = offer.complete && offer.protected.is_empty();
            let wanted = tokio::task::spawn_blocking(move || wanted(&offer, &naming, store.as_ref())).await;
            if let Ok(wanted) = wanted {
                site.plan().want(wanted, all);
            }
        }
        let gone = tokio::select! {
            changed = offers.changed() => changed.is_err(),
            changed = configs.changed() => changed.is_err(),
            changed = states.changed() => changed.is_err(),
        };
        if gone {
            return;
        }
    }
}

/// Everything that nodes shall have once it is here. What turned out to be no image is nothing for them.
fn wanted(offer: &Offer, naming: &Naming, store: Option<&Store>) -> Vec<Named> {
    let mut all = Vec::new();
    for offered in &offer.wanted {
        let artifact = &offered.artifact;
        if offered.here && !is_image(store, artifact) {
            continue;
        }
        let names = naming.of(&artifact.repository);
        let digest = artifact.digest.to_string();
        let mut references: Vec<Reference> = offered.tags.iter().cloned().map(Reference::Tag).collect();
        if references.is_empty() {
            references.push(Reference::Digest(artifact.digest));
        }
        all.extend(references.iter().filter_map(|reference| named(&names, reference, &digest)));
    }
    all
}
