//! A site's satellite and the nodes of its cluster: what each node shall have, and how each stands.
//!
//! Every node of a site shall have the same. So there is one plan, made of what is offered to the nodes; their agents ask for it, and are answered
//! when it changes. What they report is kept in memory for as long as they go on reporting.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

mod destination;
mod follow;
pub mod nodes;
pub mod plan;
pub mod routes;
pub mod token;
pub mod wire;

pub use self::follow::deliver;
use self::nodes::Nodes;
use self::plan::Plan;

/// The site as its nodes see it. Clones share it.
#[derive(Debug, Clone)]
pub struct Site {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    token_file: PathBuf,
    plan: Plan,
    nodes: Nodes,
    stop: CancellationToken,
}

impl Site {
    /// A site whose nodes show the token in this file. `stop` ends what waits.
    #[must_use]
    pub fn new(token_file: PathBuf, stop: CancellationToken) -> Self {
        let inner = Inner { token_file, plan: Plan::default(), nodes: Nodes::default(), stop };
        Self { inner: Arc::new(inner) }
    }

    /// What every node shall have.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// How the nodes stand.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.inner.nodes
    }
}
