//! Who is asking: people by session or password, robots by their secret, and what protects those proofs.
//!
//! People choose their passwords, so those are stretched (argon2id) behind a bounded queue. Everything else that
//! proves something here is at least 128 random bits and is kept as an HMAC under the server key: a whole fleet
//! may come back at once.

mod credentials;
mod hashing;
mod key;
mod password;
mod people;
mod registry_token;
mod robots;

pub use credentials::{Credentials, source_of};
pub use hashing::{Busy, PasswordHasher};
pub use key::{DerivedKey, KeyError, ServerKey, random_token};
pub use password::PasswordPolicy;
pub use people::{LoginError, People, PeopleSettings, check_username};
pub use registry_token::{Claims, Grant, RegistryTokens, Subject};
pub use robots::{RobotError, Robots};
