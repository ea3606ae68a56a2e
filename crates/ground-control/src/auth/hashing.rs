//! argon2id, on threads of its own and never more of it at once than the machine has cores for.
//!
//! Each computation takes 19 MiB. Taken from the allocator each time, on whichever thread, that leaves holes which it
//! neither gives back nor fills again; so each thread has its memory, and keeps it for as long as passwords come.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::domain::user::NO_PASSWORD;

/// Logins that may wait for their turn; one that comes when so many wait is turned away.
const QUEUE: usize = 64;

/// How long a thread keeps its memory after the last password.
const KEPT: Duration = Duration::from_secs(10);
/// For how long an idle thread leaves the queue to the others.
const TURN: Duration = Duration::from_millis(1);

/// Too many logins wait already; to be answered with 429 and `Retry-After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once, try again in a moment")]
pub struct Busy;

/// The most memory that a stored hash may ask for, in KiB: accounts may come from elsewhere with other parameters.
const MOST_MEMORY: u32 = 256 * 1024;

/// What a thread computes in; grows to what was needed most.
type Memory = Vec<Block>;
type Job = Box<dyn FnOnce(&mut Memory) + Send>;

/// Hashes and checks passwords (argon2id, m = 19456 KiB, t = 2, p = 1, as PHC strings). Its threads end with it.
#[derive(Clone, Debug)]
pub struct PasswordHasher {
    jobs: SyncSender<Job>,
    threads: usize,
    /// A hash of nothing anyone knows: checked for unknown names, so that they cost what known ones cost.
    dummy: Arc<str>,
}

impl PasswordHasher {
    /// As many threads as there are cores, two at most: each keeps 19 MiB while passwords come.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::with(cores.min(2), QUEUE, KEPT)
    }

    /// How many passwords are stretched at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    fn with(threads: usize, queue: usize, kept: Duration) -> Self {
        let (jobs, waiting) = sync_channel(queue);
        let waiting = Arc::new(Mutex::new(waiting));
        for number in 0..threads {
            let waiting = Arc::clone(&waiting);
            // Without a single thread every login is told to come back, which is also what a machine that cannot
            // start a thread should say.
            let started = std::thread::Builder::new()
                .name(format!("argon2-{number}"))
                .spawn(move || work(&waiting, kept));
            if let Err(error) = started {
                tracing::error!(%error, "thread for passwords not started");
            }
        }
        let dummy = phc(&[0; 16], &[0; 32]);
        Self { jobs, threads, dummy: dummy.into() }
    }

    /// The PHC string of a new password.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full.
    pub async fn hash(&self, password: SecretString) -> Result<String, Busy> {
        self.run(move |memory| hash_now(&password, memory)).await
    }

    /// Whether the password is that of this hash; with no hash at all, the same work and `false`.
    ///
    /// # Errors
    /// [`Busy`] when the queue is full.
    pub async fn verify(&self, hash: Option<&str>, password: SecretString) -> Result<bool, Busy> {
        // Nobody can tell by the time that it takes that an account has no password.
        let hash = hash.filter(|hash| *hash != NO_PASSWORD);
        let known = hash.is_some();
        let hash: Arc<str> = hash.map_or_else(|| Arc::clone(&self.dummy), Into::into);
        let matches = self.run(move |memory| verify_now(&hash, &password, memory)).await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let (answer, outcome) = oneshot::channel();
        let job = move |memory: &mut Memory| {
            // A client that hung up while it waited costs nothing more.
            if !answer.is_closed() {
                let _ = answer.send(work(memory));
            }
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| Busy)?;
        outcome.await.map_err(|_| Busy)
    }
}

impl Default for PasswordHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// Takes jobs until the last hasher is gone.
fn work(waiting: &Mutex<Receiver<Job>>, kept: Duration) {
    let mut memory = Memory::new();
    loop {
        // They wait in turns, so that each comes to give its memory back.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(kept);
        let job = match next {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                if !std::mem::take(&mut memory).is_empty() {
                    process_memory::return_freed();
                }
                // Who unlocks and locks again at once gets it again: another one, which may hold memory, would never have
                // its turn.
                std::thread::sleep(TURN);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // A job that panics answers nobody; the thread is there for the next.
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
    }
}

fn hash_now(password: &SecretString, memory: &mut Memory) -> String {
    let mut salt = [0_u8; 16];
    rand::fill(&mut salt);
    let mut hash = Zeroizing::new([0_u8; 32]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters());
    #[expect(
        clippy::expect_used,
        reason = "fails only for passwords of 4 GiB and for lengths that are constant here"
    )]
    compute(&argon2, password, &salt, hash.as_mut_slice(), memory)
        .expect("argon2 hashes any bounded password");
    phc(&salt, hash.as_slice())
}

fn parameters() -> Params {
    #[expect(clippy::expect_used, reason = "constant parameters within argon2's limits")]
    Params::new(19_456, 2, 1, Some(32)).expect("valid argon2 parameters")
}

fn phc(salt: &[u8], hash: &[u8]) -> String {
    let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
    format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${hash}")
}

/// Whether this is the password; a hash that does not parse is nobody's.
fn verify_now(stored: &str, password: &SecretString, memory: &mut Memory) -> bool {
    let Ok(parsed) = PasswordHash::new(stored) else { return false };
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else { return false };
    let Ok(algorithm) = Algorithm::try_from(parsed.algorithm.as_str()) else { return false };
    let Ok(version) = parsed.version.map_or(Ok(Version::V0x13), Version::try_from) else { return false };
    let Ok(params) = Params::try_from(&parsed) else { return false };
    if params.m_cost() > MOST_MEMORY {
        return false;
    }
    let mut hash = Zeroizing::new(vec![0_u8; expected.as_bytes().len()]);
    let argon2 = Argon2::new(algorithm, version, params);
    compute(&argon2, password, salt.as_ref(), &mut hash, memory).is_ok()
        && bool::from(hash.as_slice().ct_eq(expected.as_bytes()))
}

fn compute(
    argon2: &Argon2<'_>,
    password: &SecretString,
    salt: &[u8],
    hash: &mut [u8],
    memory: &mut Memory,
) -> Result<(), argon2::Error> {
    let blocks = argon2.params().block_count();
    if memory.len() < blocks {
        memory.resize(blocks, Block::new());
    }
    argon2.hash_password_into_with_memory(
        password.expose_secret().as_bytes(),
        salt,
        hash,
        memory.as_mut_slice(),
    )
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

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
        for password in ["", NO_PASSWORD, "\0"] {
            assert_eq!(hasher.verify(Some(NO_PASSWORD), SecretString::from(password)).await, Ok(false));
        }
        // The library's own check takes our hash, and ours takes hashes of other parameters.
        let parsed = PasswordHash::new(&hash).unwrap();
        assert!(Argon2::default().verify_password(b"Harbor12345", &parsed).is_ok());
        let other =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(65_536, 1, 4, None).unwrap());
        let other: PasswordHash = other.hash_password_with_salt(b"Harbor12345", &[7; 16]).unwrap();
        let other = other.to_string();
        assert_eq!(hasher.verify(Some(&other), SecretString::from("Harbor12345")).await, Ok(true));
        assert_eq!(hasher.verify(Some(&other), SecretString::from("x")).await, Ok(false));
        let huge = other.replace("m=65536", "m=4194304");
        assert_eq!(hasher.verify(Some(&huge), SecretString::from("Harbor12345")).await, Ok(false));
    }

    #[tokio::test]
    async fn memory_is_kept_for_a_while() {
        let hasher = PasswordHasher::with(1, 1, Duration::from_millis(1));
        hasher.hash(SecretString::from("Harbor12345")).await.unwrap();
        let given_back = async {
            while hasher.run(|memory| !memory.is_empty()).await.unwrap() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), given_back).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_queue_turns_away_and_a_panic_ends_no_thread() {
        let hasher = PasswordHasher::with(1, 1, KEPT);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let busy = hasher.clone();
        let first = tokio::spawn(async move {
            let work = move || {
                let _ = begun.send(());
                may_go.recv().is_ok()
            };
            busy.run(move |_| work()).await
        });
        tokio::task::spawn_blocking(move || has_begun.recv()).await.unwrap().unwrap();
        // The only thread is busy: one may wait, the next is turned away.
        let waits = hasher.clone();
        let (second, third) = tokio::join!(
            async move { tokio::time::timeout(std::time::Duration::from_millis(1), waits.run(|_| 2)).await },
            hasher.run(|_| 3)
        );
        assert!(second.is_err(), "it waits");
        assert_eq!(third, Err(Busy));
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(true));
        // The one that waited has hung up; its place in the queue is free as soon as the thread passes over it.
        while hasher.run(|_| panic!("on purpose") as ()).await == Err(Busy)
            && hasher.run(|_| 4).await != Ok(4)
        {
            tokio::task::yield_now().await;
        }
    }
}
