//! argon2id, off the event loop and never more of it at once than the machine has cores for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

/// Logins that may wait for their turn; one that comes when so many wait is turned away.
const QUEUE: usize = 64;

/// Too many logins wait already; to be answered with 429 and `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once, try again in a moment")]
pub struct Busy;

/// Hashes and checks passwords (argon2id, m = 19456 KiB, t = 2, p = 1, as PHC strings).
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// A hash of nothing anyone knows: checked for unknown names, so that they cost what known ones cost.
    dummy: Arc<str>,
}

/// Counts one waiting login for as long as it lives, also when its request is dropped.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PasswordHasher {
    /// As many at once as there are cores, four at most: each takes 19 MiB while it works.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let dummy = hash_now(&SecretString::from(super::random_token(18)));
        Self {
            permits: Arc::new(Semaphore::new(cores.min(4))),
            waiting: Arc::new(AtomicUsize::new(0)),
            dummy: dummy.into(),
        }
    }

    /// The PHC string of a new password.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full.
    pub async fn hash(&self, password: SecretString) -> Result<String, Busy> {
        self.run(move || hash_now(&password)).await
    }

    /// Whether the password is that of this hash; with no hash at all, the same work and `false`.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full.
    pub async fn verify(&self, hash: Option<&str>, password: SecretString) -> Result<bool, Busy> {
        let known = hash.is_some();
        let hash: Arc<str> = hash.map_or_else(|| Arc::clone(&self.dummy), Into::into);
        let matches = self
            .run(move || {
                PasswordHash::new(&hash).is_ok_and(|parsed| {
                    Argon2::default().verify_password(password.expose_secret().as_bytes(), &parsed).is_ok()
                })
            })
            .await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(Arc::clone(&self.waiting));
        if before >= QUEUE {
            return Err(Busy);
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Busy)?;
        tokio::task::spawn_blocking(move || {
            // Both go with the work, not with the request: a client that hangs up frees nothing early.
            let _held = (permit, waiting);
            work()
        })
        .await
        .map_err(|_| Busy)
    }
}

impl Default for PasswordHasher {
    fn default() -> Self {
        Self::new()
    }
}

fn hash_now(password: &SecretString) -> String {
    #[expect(clippy::expect_used, reason = "constant parameters within argon2's limits")]
    let params = Params::new(19_456, 2, 1, None).expect("valid argon2 parameters");
    let mut salt = [0_u8; 16];
    rand::fill(&mut salt);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: Result<PasswordHash, _> =
        argon2.hash_password_with_salt(password.expose_secret().as_bytes(), &salt);
    #[expect(clippy::expect_used, reason = "fails only for passwords of 4 GiB or bad salts")]
    let hash = hash.expect("argon2 hashes any bounded password");
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_name_passes() {
        let hasher = PasswordHasher::new();
        let hash = hasher.hash(SecretString::from("Harbor12345")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_eq!(hasher.verify(Some(&hash), SecretString::from("Harbor12345")).await, Ok(true));
        assert_eq!(hasher.verify(Some(&hash), SecretString::from("harbor12345")).await, Ok(false));
        assert_eq!(hasher.verify(None, SecretString::from("Harbor12345")).await, Ok(false));
        assert_eq!(hasher.verify(Some("not a hash"), SecretString::from("x")).await, Ok(false));
    }

    #[tokio::test]
    async fn a_full_queue_turns_away() {
        let hasher = PasswordHasher::new();
        hasher.waiting.store(QUEUE, Ordering::Relaxed);
        assert_eq!(hasher.verify(None, SecretString::from("x")).await, Err(Busy));
        assert_eq!(hasher.waiting.load(Ordering::Relaxed), QUEUE, "one turned away does not stay counted");
    }
}
