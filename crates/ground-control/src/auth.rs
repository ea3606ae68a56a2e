//! Who is asking: people by session or password, robots by their secret, and what protects those proofs.
//!
//! People choose their passwords, so those are stretched (argon2id) behind a bounded queue. Everything else that
//! proves something here is at least 128 random bits and is kept as an HMAC under the server key: a whole fleet
//! may come back at once.

pub(crate) mod api_token;
mod credentials;
mod fair;
mod hashing;
mod key;
mod limiter;
mod password;
mod people;
mod registry_token;
mod robots;
mod seal;
mod source;
mod turns;

pub use credentials::Credentials;
pub use hashing::{Busy, PasswordHasher};
pub use key::{DerivedKey, KeyError, ServerKey, random_token};
pub use limiter::Limiter;
pub use password::PasswordPolicy;
pub use people::{LoginError, People, PeopleSettings, check_username};
pub use registry_token::{Claims, Grant, RegistryTokens, Subject};
pub use robots::{RobotError, Robots};
pub use seal::{NotOpened, Seal};
pub use source::{forwarded, source_of};
