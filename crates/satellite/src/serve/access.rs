//! Who may do what at the registry. Everybody who gets in reads everything; what the satellite replicates nobody writes; in
//! the site's own namespaces people of this machine write, and over the LAN who has an account.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use oci::RepositoryName;
use registry_server::listen::PeerCertificates;
use registry_server::{AccessPolicy, Action, Authentication, Caller, Decision, Demand, Refusal};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::accounts::Accounts;
use crate::config::LocalNamespaces;

static CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"satellite\", charset=\"UTF-8\"");

/// Somebody who got in.
struct Guest {
    name: String,
    writes: bool,
    local: LocalNamespaces,
}

impl Caller for Guest {
    fn decide(&self, action: Action, repository: Option<&RepositoryName>) -> Decision {
        match action {
            Action::Probe | Action::Pull | Action::Catalog => Decision::Allow,
            Action::Push | Action::Delete if repository.is_some_and(|name| self.local.holds(name)) => {
                if self.writes { Decision::Allow } else { Decision::Deny }
            }
            Action::Push | Action::Delete => Decision::ReadOnly,
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The listener that is plain and open. Where it was allowed beyond loopback, others read.
pub struct Open {
    reader: Arc<dyn Caller>,
    writer: Arc<dyn Caller>,
}

impl Open {
    /// With these namespaces to write in.
    #[must_use]
    pub fn new(local: &LocalNamespaces) -> Self {
        let guest = |writes| {
            Arc::new(Guest { name: "anonymous".to_owned(), writes, local: local.clone() }) as Arc<dyn Caller>
        };
        Self { reader: guest(false), writer: guest(true) }
    }
}

impl AccessPolicy for Open {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> Authentication<'a> {
        let here = source(head).is_some_and(|source| source.is_loopback());
        // A page in a browser of this machine is no person of it (Fetch Standard, section 3.2).
        let writes = here && !head.headers.contains_key(ORIGIN);
        Authentication::Ready(Ok(Arc::clone(if writes { &self.writer } else { &self.reader })))
    }

    fn challenge(&self, _demands: &[Demand<'_>]) -> HeaderValue {
        CHALLENGE.clone()
    }
}

/// The listener for the LAN: accounts, or certificates of the local authority.
pub struct Lan {
    accounts: Accounts,
    local: LocalNamespaces,
}

impl Lan {
    /// For these accounts, which write in these namespaces.
    #[must_use]
    pub fn new(accounts: Accounts, local: LocalNamespaces) -> Self {
        Self { accounts, local }
    }

    fn guest(&self, name: String, writes: bool) -> Arc<dyn Caller> {
        Arc::new(Guest { name, writes, local: self.local.clone() })
    }

    fn certified(&self, certificates: &PeerCertificates) -> Result<Arc<dyn Caller>, Refusal> {
        // Expiry is asked for with each request: a connection may live for days.
        let name = holder(certificates, Timestamp::now()).ok_or(Refusal::Unauthenticated)?;
        if self.accounts.is_locked(&name) {
            return Err(Refusal::Denied(format!(
                "`{name}` is locked: the site's operator has the accounts file"
            )));
        }
        Ok(self.guest(name, false))
    }
}

impl AccessPolicy for Lan {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> Authentication<'a> {
        if head.headers.contains_key(AUTHORIZATION) {
            let Some((name, password)) = basic(&head.headers) else {
                return Authentication::Ready(Err(Refusal::Unauthenticated));
            };
            let Some(source) = source(head) else {
                return Authentication::Ready(Err(Refusal::Unauthenticated));
            };
            return Authentication::later(async move {
                self.accounts.check(&name, password, source).await?;
                Ok(self.guest(name, true))
            });
        }
        let certificates = head.extensions.get::<PeerCertificates>();
        Authentication::Ready(
            certificates
                .ok_or(Refusal::Unauthenticated)
                .and_then(|certificates| self.certified(certificates)),
        )
    }

    fn challenge(&self, _demands: &[Demand<'_>]) -> HeaderValue {
        CHALLENGE.clone()
    }
}

fn source(head: &Parts) -> Option<IpAddr> {
    head.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical())
}

/// The only name in a certificate's subject; none where it is not good at that moment. The handshake looked at everything else.
fn holder(certificates: &PeerCertificates, now: Timestamp) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificates.0.first()?).ok()?;
    let validity = certificate.validity();
    let good = (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.as_second());
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) if good => name.as_str().ok().map(str::to_owned),
        _ => None,
    }
}

/// The credentials of `Authorization: Basic` (RFC 7617, section 2).
fn basic(headers: &HeaderMap) -> Option<(String, SecretString)> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (all.next(), all.next()) else { return None };
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim()).ok()?);
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), SecretString::from(password)))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::serve::local_ca::{LocalCa, SERVER_LIFE};

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    fn local() -> LocalNamespaces {
        "dev".parse().unwrap()
    }

    fn head(peer: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder();
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        head
    }

    async fn caller(policy: &impl AccessPolicy, head: &Parts) -> Result<Arc<dyn Caller>, Refusal> {
        match policy.authenticate(head) {
            Authentication::Ready(outcome) => outcome,
            Authentication::Pending(work) => work.await,
        }
    }

    fn decisions(caller: &dyn Caller) -> [Decision; 4] {
        [
            (Action::Pull, "library/x"),
            (Action::Push, "library/x"),
            (Action::Push, "dev/x"),
            (Action::Delete, "dev/x"),
        ]
        .map(|(action, repository)| caller.decide(action, Some(&name(repository))))
    }

    #[tokio::test]
    async fn people_of_this_machine_write_where_the_site_says() {
        use Decision::{Allow, Deny, ReadOnly};
        let open = Open::new(&local());
        for (head, last) in [
            (head("127.0.0.1", &[]), Allow),
            (head("::1", &[]), Allow),
            (head("::ffff:127.0.0.1", &[]), Allow),
            (head("192.0.2.7", &[]), Deny),
            (head("127.0.0.1", &[("origin", "https://evil.example")]), Deny),
        ] {
            let caller = caller(&open, &head).await.ok().unwrap();
            assert_eq!(decisions(caller.as_ref()), [Allow, ReadOnly, last, last]);
            let elsewhere = caller.decide(Action::Push, Some(&name("devil/x")));
            assert_eq!(elsewhere, ReadOnly, "a namespace is whole segments");
        }
    }

    #[tokio::test]
    async fn over_the_lan_nobody_is_anonymous() {
        use Decision::{Allow, Deny, ReadOnly};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("accounts");
        let line = crate::serve::accounts::line("node", &SecretString::from("pass:word")).unwrap();
        blob_store::durable::write_file(&file, format!("{line}\nold:!\n").as_bytes(), 0o600).unwrap();
        let accounts = Accounts::default();
        accounts.read(&file).unwrap();
        let lan = Lan::new(accounts, local());
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let with = basic("node:pass:word");
        let account = caller(&lan, &head("192.0.2.7", &[("authorization", &with)])).await.ok().unwrap();
        assert_eq!(decisions(account.as_ref()), [Allow, ReadOnly, Allow, Allow]);
        let (wrong, bearer) = (basic("node:x"), "Bearer x".to_owned());
        for headers in [
            vec![],
            vec![("authorization", wrong.as_str())],
            vec![("authorization", bearer.as_str())],
            vec![("authorization", "Basic ==="), ("authorization", &with)],
        ] {
            let outcome = caller(&lan, &head("192.0.2.7", &headers)).await;
            assert!(matches!(outcome, Err(Refusal::Unauthenticated)), "{headers:?}");
        }

        let ca = LocalCa::open(folder.path()).unwrap();
        let now = Timestamp::now();
        let shown = |name: &str, at: Timestamp| {
            let mut head = head("192.0.2.7", &[]);
            let issued = ca.issue_client(name, at, SERVER_LIFE).unwrap();
            head.extensions.insert(PeerCertificates([issued.certificate].into()));
            head
        };
        let node = caller(&lan, &shown("node-2", now)).await.ok().unwrap();
        assert_eq!((node.name(), decisions(node.as_ref())), ("node-2", [Allow, ReadOnly, Deny, Deny]));
        assert!(matches!(caller(&lan, &shown("old", now)).await, Err(Refusal::Denied(_))));
        let expired = caller(&lan, &shown("node-2", now - SERVER_LIFE * 2)).await;
        assert!(matches!(expired, Err(Refusal::Unauthenticated)));
    }
}
