//! From credentials to what they open.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use fleet_protocol::state::PROJECT;
use http::HeaderValue;
use http::request::Parts;
use jiff::Timestamp;
use oci::RepositoryName;
use registry_server::{AccessPolicy, Action, Authentication, Caller, Decision, Demand, Refusal};
use secrecy::{ExposeSecret as _, SecretString};

use super::SERVICE;
use crate::auth::{
    Credentials, Grant, LoginError, People, RegistryTokens, RobotError, Robots, Subject, api_token, source_of,
};
use crate::domain::StoreError;
use crate::domain::satellite::{Robot, robot_name, satellite_of_robot};
use crate::domain::token::{ApiToken, TokenKey};
use crate::domain::user::{Role, User};
use crate::store::SharedStore;

/// Finds out who credentials belong to, and what that account may do.
#[derive(Debug, Clone)]
pub struct Accounts {
    store: SharedStore,
    people: Arc<People>,
    robots: Robots,
    tokens: RegistryTokens,
}

/// An account that proved itself, with what it may do at this moment.
#[derive(Debug, Clone)]
pub(super) struct Account {
    name: String,
    /// What a token is bound to: the stored form of the credential.
    pub(super) credential: String,
    pub(super) subject: Subject,
    rights: Rights,
}

#[derive(Debug, Clone)]
enum Rights {
    /// Everything is read; written only where no state documents are.
    Person { writes: bool },
    /// Only these are read.
    Robot(Arc<HashSet<String>>),
}

impl Account {
    /// What the account itself may do, whatever token it came with.
    pub(super) fn may(&self, action: Action, repository: Option<&RepositoryName>) -> bool {
        match (&self.rights, action) {
            (_, Action::Probe) => true,
            (Rights::Person { .. }, Action::Pull | Action::Catalog) => true,
            (Rights::Person { writes }, Action::Push | Action::Delete) => {
                *writes && repository.is_some_and(|repository| !is_state(repository))
            }
            (Rights::Robot(readable), Action::Pull) => {
                repository.is_some_and(|repository| readable.contains(repository.as_str()))
            }
            (Rights::Robot(_), Action::Catalog | Action::Push | Action::Delete) => false,
        }
    }
}

fn is_state(repository: &RepositoryName) -> bool {
    repository.as_str().split('/').next() == Some(PROJECT)
}

impl Accounts {
    /// Accounts of this database.
    pub fn new(store: SharedStore, people: Arc<People>, robots: Robots, tokens: RegistryTokens) -> Self {
        Self { store, people, robots, tokens }
    }

    pub(super) fn tokens(&self) -> &RegistryTokens {
        &self.tokens
    }

    /// The account of a name and a password or secret.
    pub(super) async fn basic(
        &self,
        username: &str,
        password: &SecretString,
        source: IpAddr,
    ) -> Result<Account, Refusal> {
        if satellite_of_robot(username).is_some() {
            let (robot, presented) = self.robots.check(username, password).await.map_err(robot_refusal)?;
            self.robot(robot, presented.as_str().to_owned()).await
        } else if api_token::is_meant(password) {
            let token = self.people.api_token(password).await.map_err(login_refusal)?;
            if token.owner.username == username { by_token(token) } else { Err(Refusal::Unauthenticated) }
        } else {
            let known =
                self.people.check_password(username, password, source).await.map_err(login_refusal)?;
            Ok(person(known.user, known.password_hash))
        }
    }

    /// The account of a registry token, if both are still good, and what the token is limited to.
    async fn bearer(&self, token: &SecretString) -> Result<(Account, Vec<Grant>), Refusal> {
        let claims = self
            .tokens
            .check(token.expose_secret(), Timestamp::now().as_second())
            .ok_or(Refusal::Unauthenticated)?;
        let good = |stored: &str| self.tokens.print(stored) == claims.credential;
        let account = match &claims.subject {
            Subject::Person(name) => {
                let known = self.store.credentials(name).await.map_err(|error| unavailable(&error))?;
                let known =
                    known.filter(|known| good(&known.password_hash)).ok_or(Refusal::Unauthenticated)?;
                person(known.user, known.password_hash)
            }
            Subject::Token(id) => {
                let (key, now) = (TokenKey::Id(id), Timestamp::now());
                let token = self.store.use_api_token(key, now).await.map_err(|error| unavailable(&error))?;
                let token = token.filter(|token| good(token.hash.as_str()));
                by_token(token.ok_or(Refusal::Unauthenticated)?)?
            }
            Subject::Robot(name) => {
                let robot = self.store.robot(name).await.map_err(|error| unavailable(&error))?;
                let robot = robot.ok_or(Refusal::Unauthenticated)?;
                let secrets = [robot.secret.as_ref(), robot.previous_secret.as_ref()];
                let secret = secrets.into_iter().flatten().find(|secret| good(secret.as_str()));
                let secret = secret.ok_or(Refusal::Unauthenticated)?.as_str().to_owned();
                if !robot.state.admits() {
                    return Err(not_admitted(&robot.satellite_name));
                }
                self.robot(robot, secret).await?
            }
        };
        Ok((account, claims.grants))
    }

    async fn robot(&self, robot: Robot, credential: String) -> Result<Account, Refusal> {
        let readable = self.store.pullable(&robot.satellite).await.map_err(|error| unavailable(&error))?;
        Ok(Account {
            name: robot_name(&robot.satellite_name),
            credential,
            subject: Subject::Robot(robot.satellite_name),
            rights: Rights::Robot(Arc::new(readable.into_iter().collect())),
        })
    }
}

fn person(user: User, credential: String) -> Account {
    Account {
        credential,
        subject: Subject::Person(user.username.clone()),
        rights: Rights::Person { writes: user.role >= Role::Admin },
        name: user.username,
    }
}

/// Somebody's API token: what its scopes say, as far as the owner may.
fn by_token(token: ApiToken) -> Result<Account, Refusal> {
    if !token.scopes.pulls() {
        let why = format!("the API token is for {} and not for the registry", token.scopes);
        return Err(Refusal::Denied(why));
    }
    Ok(Account {
        credential: token.hash.as_str().to_owned(),
        subject: Subject::Token(token.id),
        rights: Rights::Person { writes: token.scopes.pushes(token.owner.role) },
        name: token.owner.username,
    })
}

fn not_admitted(satellite: &str) -> Refusal {
    Refusal::Denied(format!("satellite {satellite} is not admitted"))
}

fn unavailable(error: &StoreError) -> Refusal {
    tracing::warn!(%error, "account not looked up");
    Refusal::Unavailable("accounts cannot be looked up at present, try again in a moment".to_owned())
}

fn robot_refusal(error: RobotError) -> Refusal {
    match error {
        RobotError::Wrong => Refusal::Unauthenticated,
        RobotError::NotAdmitted(name) => not_admitted(&name),
        RobotError::Store(error) => unavailable(&error),
    }
}

fn login_refusal(error: LoginError) -> Refusal {
    match error {
        LoginError::Wrong => Refusal::Unauthenticated,
        LoginError::Locked(left) => Refusal::TooManyRequests(left),
        LoginError::Busy(_) => Refusal::TooManyRequests(std::time::Duration::from_secs(1)),
        LoginError::Store(error) => unavailable(&error),
    }
}

/// The policy of one listener: its challenges name the token service under the configured URL.
#[derive(Debug)]
pub struct Policy {
    accounts: Accounts,
    /// Everything of a challenge but its scope.
    challenge: String,
}

impl Policy {
    /// The policy of the listener whose public URL is `public_url` (without a slash at the end).
    pub fn new(accounts: Accounts, public_url: &str) -> Self {
        Self {
            accounts,
            challenge: format!("Bearer realm=\"{public_url}/service/token\",service=\"{SERVICE}\""),
        }
    }

    async fn caller(&self, credentials: Credentials, source: IpAddr) -> Result<Arc<dyn Caller>, Refusal> {
        match credentials {
            Credentials::Basic { username, password } => {
                let account = self.accounts.basic(&username, &password, source).await?;
                Ok(Arc::new(Known { account, limit: None }))
            }
            Credentials::Bearer(token) => {
                let (account, grants) = self.accounts.bearer(&token).await?;
                Ok(Arc::new(Known { account, limit: Some(grants) }))
            }
            Credentials::None => Ok(Arc::new(Anonymous)),
            Credentials::Malformed => Err(Refusal::Unauthenticated),
        }
    }
}

impl AccessPolicy for Policy {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> Authentication<'a> {
        match Credentials::of(&head.headers) {
            Credentials::None => Authentication::Ready(Ok(Arc::new(Anonymous))),
            Credentials::Malformed => Authentication::Ready(Err(Refusal::Unauthenticated)),
            credentials => {
                let source = source_of(&head.extensions);
                Authentication::later(self.caller(credentials, source))
            }
        }
    }

    fn challenge(&self, demands: &[Demand<'_>]) -> HeaderValue {
        let mut text = self.challenge.clone();
        let scope = demanded_scope(demands);
        if !scope.is_empty() {
            text.push_str(",scope=\"");
            text.push_str(&scope);
            text.push('"');
        }
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    }
}

/// The scope that a token needs for all of these demands.
fn demanded_scope(demands: &[Demand<'_>]) -> String {
    let mut scopes: Vec<(String, Vec<&str>)> = Vec::new();
    for demand in demands {
        let (place, actions): (String, &[&str]) = match (demand.action, demand.repository) {
            (Action::Catalog, _) => ("registry:catalog".to_owned(), &["*"]),
            (Action::Pull, Some(repository)) => (format!("repository:{repository}"), &["pull"]),
            // Whoever pushes also asks what is there already.
            (Action::Push, Some(repository)) => (format!("repository:{repository}"), &["pull", "push"]),
            (Action::Delete, Some(repository)) => (format!("repository:{repository}"), &["delete"]),
            (Action::Probe | Action::Pull | Action::Push | Action::Delete, _) => continue,
        };
        let at = match scopes.iter().position(|(known, _)| *known == place) {
            Some(at) => at,
            None => {
                scopes.push((place, Vec::new()));
                scopes.len() - 1
            }
        };
        for action in actions {
            if !scopes[at].1.contains(action) {
                scopes[at].1.push(action);
            }
        }
    }
    let texts: Vec<String> =
        scopes.into_iter().map(|(place, actions)| format!("{place}:{}", actions.join(","))).collect();
    texts.join(" ")
}

/// Somebody without credentials: asked for them whatever they want.
struct Anonymous;

impl Caller for Anonymous {
    fn decide(&self, _action: Action, _repository: Option<&RepositoryName>) -> Decision {
        Decision::Challenge
    }

    fn name(&self) -> &str {
        "anonymous"
    }
}

/// An account, limited to what its token is for if it came with one.
struct Known {
    account: Account,
    limit: Option<Vec<Grant>>,
}

impl Caller for Known {
    fn decide(&self, action: Action, repository: Option<&RepositoryName>) -> Decision {
        if !self.account.may(action, repository) {
            return Decision::Deny;
        }
        let Some(grants) = &self.limit else { return Decision::Allow };
        let granted = match action {
            Action::Probe => true,
            Action::Catalog => grants.iter().any(|grant| grant.repository.is_none() && grant.pull),
            Action::Pull | Action::Push | Action::Delete => grants.iter().any(|grant| {
                grant.repository.as_ref() == repository
                    && repository.is_some()
                    && match action {
                        Action::Pull => grant.pull,
                        Action::Push => grant.push,
                        _ => grant.delete,
                    }
            }),
        };
        // The account may, this token does not say so: the client is told which one it needs.
        if granted { Decision::Allow } else { Decision::Challenge }
    }

    fn name(&self) -> &str {
        &self.account.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> RepositoryName {
        name.parse().unwrap()
    }

    #[test]
    fn one_scope_covers_all_demands() {
        let (a, b) = (repository("library/a"), repository("b"));
        let demand = |action, repository| Demand { action, repository };
        assert_eq!(demanded_scope(&[demand(Action::Probe, None)]), "");
        assert_eq!(demanded_scope(&[demand(Action::Catalog, None)]), "registry:catalog:*");
        assert_eq!(demanded_scope(&[demand(Action::Pull, Some(&a))]), "repository:library/a:pull");
        assert_eq!(
            demanded_scope(&[
                demand(Action::Push, Some(&a)),
                demand(Action::Pull, Some(&b)),
                demand(Action::Pull, Some(&a))
            ]),
            "repository:library/a:pull,push repository:b:pull"
        );
    }

    #[test]
    fn roles_open_what_they_should() {
        let account = |rights| Account {
            name: "x".into(),
            credential: "c".into(),
            subject: Subject::Person("x".into()),
            rights,
        };
        let (image, state) = (repository("library/a"), repository("satellite/group-state/g/state"));
        let admin = account(Rights::Person { writes: true });
        let viewer = account(Rights::Person { writes: false });
        let robot = account(Rights::Robot(Arc::new(["library/a".to_owned()].into())));
        for (who, action, place, expected) in [
            (&admin, Action::Push, &image, true),
            (&admin, Action::Delete, &image, true),
            (&admin, Action::Pull, &state, true),
            (&admin, Action::Push, &state, false),
            (&admin, Action::Delete, &state, false),
            (&viewer, Action::Pull, &image, true),
            (&viewer, Action::Push, &image, false),
            (&viewer, Action::Delete, &image, false),
            (&robot, Action::Pull, &image, true),
            (&robot, Action::Pull, &state, false),
            (&robot, Action::Push, &image, false),
            (&robot, Action::Catalog, &image, false),
        ] {
            assert_eq!(who.may(action, Some(place)), expected, "{action:?} {place}");
        }
        // The first segment is compared, not a prefix of the text.
        assert!(admin.may(Action::Push, Some(&repository("satellite-images/a"))));
    }

    #[test]
    fn a_token_limits_its_account() {
        let account = Account {
            name: "x".into(),
            credential: "c".into(),
            subject: Subject::Person("x".into()),
            rights: Rights::Person { writes: true },
        };
        let a = repository("a");
        let grant = Grant { repository: Some(a.clone()), pull: true, push: false, delete: false };
        let caller = Known { account, limit: Some(vec![grant]) };
        assert_eq!(caller.decide(Action::Pull, Some(&a)), Decision::Allow);
        assert_eq!(caller.decide(Action::Push, Some(&a)), Decision::Challenge);
        assert_eq!(caller.decide(Action::Pull, Some(&repository("b"))), Decision::Challenge);
        assert_eq!(caller.decide(Action::Catalog, None), Decision::Challenge);
        assert_eq!(caller.decide(Action::Probe, None), Decision::Allow);
    }
}
