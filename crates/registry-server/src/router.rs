//! From a request to the handler of what it asks for.
//!
//! The order is the same for every request: read the path and the query, refuse foreign namespaces, ask who it is,
//! ask whether they may, act. No middleware: a manifest read costs one table look-up and one response.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use blob_store::Store;
use http::header::{ALLOW, EXPECT, HeaderName};
use http::request::Parts;
use http::{HeaderValue, Method};
use http_body::Body as _;
use oci::{Digest, Reference, RepositoryName};

use crate::access::{AccessPolicy, Action, Authentication, Caller, Decision, Demand, Refusal};
use crate::body;
use crate::error::{ErrorCode, RegistryError};
use crate::events::{Event, EventKind};
use crate::options::{Namespaces, Options};
use crate::path::{self, Target};
use crate::query::Query;
use crate::respond::{self, OCI_NAMESPACE};
use crate::{blobs, discovery, manifests, uploads};

/// Told to clients that look for it before they believe that a registry of the second generation is here.
static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// What of a refused request's body is read and thrown away, so that a client that is still sending gets to read why
/// it was refused instead of a reset connection.
const DRAIN: usize = 16 * 1024 * 1024;

/// The registry as a router that answers `/v2`, `/v2/` and everything below. Merge it into a program's own router.
pub fn router(store: Store, policy: Arc<dyn AccessPolicy>, options: Options) -> Router {
    let registry = Arc::new(Registry { store, policy, options });
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .with_state(registry)
}

/// What all requests share.
pub(crate) struct Registry {
    pub(crate) store: Store,
    policy: Arc<dyn AccessPolicy>,
    pub(crate) options: Options,
}

/// One request that has been read and whose sender is known.
pub(crate) struct Asked<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) head: &'a Parts,
    pub(crate) query: &'a Query<'a>,
    pub(crate) caller: &'a dyn Caller,
}

impl Asked<'_> {
    pub(crate) fn store(&self) -> &Store {
        &self.registry.store
    }

    pub(crate) fn is_head(&self) -> bool {
        self.head.method == Method::HEAD
    }

    /// Whether the caller may pull from a repository that the request names only in passing.
    pub(crate) fn may_pull(&self, repository: &RepositoryName) -> bool {
        self.caller.decide(Action::Pull, Some(repository)) == Decision::Allow
    }

    pub(crate) fn observe(
        &self,
        kind: EventKind,
        repository: &RepositoryName,
        reference: &Reference,
        digest: Option<&Digest>,
        bytes: u64,
    ) {
        if let Some(observer) = &self.registry.options.observer {
            observer.observe(&Event {
                kind,
                repository,
                reference,
                digest,
                bytes,
                caller: self.caller.name(),
            });
        }
    }
}

async fn handle(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    match answer(&registry, &head, &mut body).await {
        Ok(response) => response,
        Err(error) => {
            // A client that waits for `100 Continue` is told before it sends anything; the others are heard out.
            if !body.is_end_stream() && !head.headers.contains_key(EXPECT) {
                body::drain(&mut body, DRAIN).await;
            }
            error.into_response(head.method == Method::HEAD)
        }
    }
}

async fn answer(registry: &Registry, head: &Parts, body: &mut Body) -> Result<Response, RegistryError> {
    let mut target = path::parse(head.uri.path())?;
    let query = Query::parse(head.uri.query())?;
    if let Some(ns) = query.ns.as_deref().or(registry.options.assumed_namespace.as_deref()) {
        target = in_namespace(&registry.options.namespaces, ns, target).ok_or_else(|| {
            RegistryError::new(
                ErrorCode::NameUnknown,
                format!("this registry holds nothing of `{}`: ask that registry itself", shortened(ns)),
            )
        })?;
    }
    let action = action(&target, &head.method)?;

    let authenticated = match registry.policy.authenticate(head) {
        Authentication::Ready(outcome) => outcome,
        Authentication::Pending(work) => work.await,
    };
    let demand = Demand { action, repository: target.repository() };
    let caller = authenticated.map_err(|refusal| registry.refused(&refusal, demand, &query))?;
    registry.permit(caller.as_ref(), demand, &query)?;

    let asked = Asked { registry, head, query: &query, caller: caller.as_ref() };
    let mut response = route(&asked, target, body).await?;
    if let Some(ns) = query.ns.as_deref() {
        response.headers_mut().insert(OCI_NAMESPACE.clone(), respond::header_text(ns));
    }
    Ok(response)
}

/// What a request means that is one of a host; none where nothing of that host can be in that place.
fn in_namespace(namespaces: &Namespaces, host: &str, target: Target) -> Option<Target> {
    match target {
        Target::Base => namespaces.accepts(host).then_some(target),
        // A list of everything would tell of other hosts, too.
        Target::Catalog => namespaces.is_whole(host).then_some(target),
        target => target.moved(|repository| namespaces.place(host, repository)),
    }
}

async fn route(asked: &Asked<'_>, target: Target, body: &mut Body) -> Result<Response, RegistryError> {
    let method = &asked.head.method;
    match target {
        Target::Base => {
            let mut response = respond::json("application/json", b"{}".to_vec(), asked.is_head());
            response.headers_mut().insert(API_VERSION.clone(), HeaderValue::from_static("registry/2.0"));
            Ok(response)
        }
        Target::Catalog => discovery::catalog(asked).await,
        Target::Tags(name) => discovery::tags(asked, &name),
        Target::Referrers(name, digest) => discovery::referrers(asked, &name, &digest),
        Target::Manifest(name, reference) => match *method {
            Method::PUT => manifests::put(asked, name, reference, body).await,
            Method::DELETE => manifests::delete(asked, &name, reference).await,
            _ => manifests::get(asked, &name, &reference),
        },
        Target::NoManifest(name, text) => match *method {
            Method::PUT => Err(RegistryError::new(
                ErrorCode::ManifestInvalid,
                format!(
                    "`{}` is neither a tag (1 to 128 of `[a-zA-Z0-9_.-]`, not beginning with `.` or `-`) nor a digest",
                    shortened(&text)
                ),
            )),
            _ => Err(RegistryError::manifest_unknown(name.as_str(), shortened(&text))),
        },
        Target::Blob(name, digest) => match *method {
            Method::DELETE => blobs::delete(asked, &name, &digest).await,
            _ => blobs::get(asked, &name, &digest),
        },
        Target::Uploads(name) => uploads::begin(asked, &name, body).await,
        Target::Upload(name, session) => match *method {
            Method::PATCH => uploads::append(asked, &name, &session, body).await,
            Method::PUT => uploads::finish(asked, &name, &session, body).await,
            Method::DELETE => uploads::cancel(asked, &name, &session).await,
            _ => uploads::status(asked, &name, &session).await,
        },
    }
}

/// What a method means on a target; 405 with `Allow` where it means nothing.
fn action(target: &Target, method: &Method) -> Result<Action, RegistryError> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    let (action, allowed) = match target {
        Target::Base => (read.then_some(Action::Probe), "GET, HEAD"),
        Target::Catalog => (read.then_some(Action::Catalog), "GET, HEAD"),
        Target::Tags(_) | Target::Referrers(..) => (read.then_some(Action::Pull), "GET, HEAD"),
        Target::Manifest(..) | Target::NoManifest(..) => (
            match *method {
                Method::PUT => Some(Action::Push),
                Method::DELETE => Some(Action::Delete),
                _ => read.then_some(Action::Pull),
            },
            "GET, HEAD, PUT, DELETE",
        ),
        Target::Blob(..) => (
            match *method {
                Method::DELETE => Some(Action::Delete),
                _ => read.then_some(Action::Pull),
            },
            "GET, HEAD, DELETE",
        ),
        Target::Uploads(_) => ((*method == Method::POST).then_some(Action::Push), "POST"),
        Target::Upload(..) => (
            (read || matches!(*method, Method::PATCH | Method::PUT | Method::DELETE)).then_some(Action::Push),
            "GET, HEAD, PATCH, PUT, DELETE",
        ),
    };
    action.ok_or_else(|| {
        RegistryError::new(
            ErrorCode::Unsupported,
            format!("`{}` means nothing here: {allowed} do", shortened(method.as_str())),
        )
        .with_header(ALLOW, HeaderValue::from_static(allowed))
    })
}

impl Registry {
    /// Asks whether the caller may, and turns every other answer into its error.
    fn permit(
        &self,
        caller: &dyn Caller,
        demand: Demand<'_>,
        query: &Query<'_>,
    ) -> Result<(), RegistryError> {
        match caller.decide(demand.action, demand.repository) {
            Decision::Allow => match mount_source(query) {
                // A token for the target alone would turn the mount into an upload of what is here already.
                Some(source)
                    if demand.action == Action::Push
                        && matches!(caller.decide(Action::Pull, Some(&source)), Decision::Challenge) =>
                {
                    Err(self.challenged(demand, query))
                }
                _ => Ok(()),
            },
            Decision::Challenge => Err(self.challenged(demand, query)),
            Decision::Deny => Err(RegistryError::new(
                ErrorCode::Denied,
                format!(
                    "`{}` may not do that here: ask the registry's operator for the right",
                    caller.name()
                ),
            )),
            Decision::ReadOnly => Err(RegistryError::new(
                ErrorCode::Unsupported,
                "this registry is read-only: push to the central registry, from which it is filled",
            )),
            Decision::NotFound => Err(RegistryError::new(
                ErrorCode::NameUnknown,
                match demand.repository {
                    Some(name) => format!("there is no repository `{name}`"),
                    None => "there is no such thing here".to_owned(),
                },
            )),
        }
    }

    fn refused(&self, refusal: &Refusal, demand: Demand<'_>, query: &Query<'_>) -> RegistryError {
        match refusal {
            Refusal::Unauthenticated => self.challenged(demand, query),
            Refusal::Denied(why) => RegistryError::new(ErrorCode::Denied, why.clone()),
            Refusal::TooManyRequests(wait) => RegistryError::too_many_requests(*wait),
            Refusal::Unavailable(why) => RegistryError::new(ErrorCode::Unavailable, why.clone()),
        }
    }

    /// 401 with a challenge for all that the request needs: a push also pulls, and a mount pulls elsewhere.
    fn challenged(&self, demand: Demand<'_>, query: &Query<'_>) -> RegistryError {
        let mut demands = vec![demand];
        if demand.action == Action::Push {
            demands.push(Demand { action: Action::Pull, repository: demand.repository });
        }
        let source = mount_source(query);
        if let Some(source) = &source {
            demands.push(Demand { action: Action::Pull, repository: Some(source) });
        }
        RegistryError::unauthorized(self.policy.challenge(&demands))
            .with_header(API_VERSION.clone(), HeaderValue::from_static("registry/2.0"))
    }
}

/// The beginning of a text that came from outside, for a message.
fn shortened(text: &str) -> &str {
    match text.char_indices().nth(128) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The repository that a mount names as its source.
fn mount_source(query: &Query<'_>) -> Option<RepositoryName> {
    query.mount.as_ref()?;
    query.from.as_deref()?.parse().ok()
}
