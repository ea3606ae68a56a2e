//! Who acts in a request, for the audit: noted by whoever finds out, and known to what surrounds the request when it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use http::Extensions;

use crate::auth::source_of;
use crate::domain::audit::{Actor, ActorKind, Authentication};

/// What is known of a request; one for each, shared by all clones.
#[derive(Debug, Clone)]
pub(crate) struct RequestContext {
    id: Arc<str>,
    began: Instant,
    actor: Arc<Mutex<Option<Actor>>>,
}

impl RequestContext {
    /// Of the request called `id`, which came now.
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.into(), began: Instant::now(), actor: Arc::default() }
    }

    /// Who was found to ask, or is said to.
    pub(crate) fn actor(&self) -> Option<Actor> {
        self.actor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When its head was there.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The request's name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

/// Makes the actor of a request, and notes it.
pub(crate) fn actor(extensions: &Extensions, kind: ActorKind, name: &str, by: Authentication) -> Actor {
    let context = extensions.get::<RequestContext>();
    let actor = Actor::new(kind, name, by)
        .with_request(source_of(extensions), context.map(|context| context.id.as_ref()));
    if let Some(context) = context {
        *context.actor.lock().unwrap_or_else(PoisonError::into_inner) = Some(actor.clone());
    }
    actor
}

/// A satellite that shows a one-time secret: its name is that of whom the secret belongs to.
pub(crate) fn unnamed_satellite(extensions: &Extensions, by: Authentication) -> Actor {
    actor(extensions, ActorKind::Satellite, "", by)
}

/// Somebody who says to be `name`, and has not shown it.
pub(crate) fn claimed(extensions: &Extensions, name: &str) {
    actor(extensions, ActorKind::Anonymous, name, Authentication::None);
}
