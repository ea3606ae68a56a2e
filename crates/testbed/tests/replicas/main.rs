//! Two Ground Controls on one PostgreSQL and a registry that is neither's: whichever of them is killed, and in the middle of
//! whatever, every change that was acknowledged is there and published.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

mod cloud;
mod documents;
mod people;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use cloud::{Cloud, REPLICAS};
use people::Person;

const PEOPLE: usize = 4;
const OPERATIONS: usize = 1000;
const KILLS: usize = 20;
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_changes_and_twenty_kills() {
    let seed = std::env::var("REPLICAS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("REPLICAS_SEED={seed}");
    let cloud = Arc::new(Cloud::start(REPLICAS).await);
    let acknowledged = Arc::new(AtomicUsize::new(0));

    let people: Vec<_> = (0..PEOPLE)
        .map(|number| {
            let (cloud, acknowledged) = (Arc::clone(&cloud), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                let mut person = Person::new(&cloud, number, seed);
                for _ in 0..OPERATIONS / PEOPLE {
                    person.change_something().await;
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
                person.expected
            })
        })
        .collect();

    let mut random = StdRng::seed_from_u64(seed);
    for kill in 0..KILLS {
        // A kill falls somewhere within each twentieth of the work.
        let at = kill * (OPERATIONS / KILLS) + random.random_range(0..OPERATIONS / KILLS / 2);
        testbed::process::wait_for("changes before the next kill", LIMIT, async || {
            (acknowledged.load(Ordering::SeqCst) >= at).then_some(())
        })
        .await
        .unwrap();
        cloud.kill_and_restart(random.random_range(0..REPLICAS)).await;
    }

    let mut failures = Vec::new();
    for person in people {
        let expected = person.await.unwrap();
        for replica in 0..REPLICAS {
            failures.extend(expected.missing_in_the_api(&cloud, replica).await);
        }
        failures.extend(documents::missing(&cloud, &expected, LIMIT).await);
    }
    assert_eq!(failures, Vec::<String>::new(), "REPLICAS_SEED={seed}");
}

#[tokio::test]
async fn a_second_replica_on_a_registry_of_its_own_refuses_to_start() {
    let refusal = cloud::second_on_builtin().await;
    assert!(refusal.contains("REGISTRY_BACKEND"), "{refusal}");
}
