//! Answers that are lost on the way, after Ground Control did what was asked.

use testbed::clock::Clock;
use testbed::files;
use testbed::process::wait_for;

use crate::support::{HOUR, LIMIT, arrives, builtin_behind_link, publish, reaches, says, status, svid_end};

/// Bytes of an answer's head, a nonce included; what carries an SVID is longer.
const HEAD: u64 = 600;

#[tokio::test]
async fn a_lost_answer_to_attest_is_given_again() {
    let (world, link) = builtin_behind_link(None).await;
    let image = publish(&world, "one", "1", 1, &[20_000]).await;
    let mut site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    site.set_ground_control_url(link.url());
    link.lose_answers(0, 2);
    let _satellite = site.start().await.unwrap();
    wait_for("two lost answers", LIMIT, async || (link.lost() == 2).then_some(())).await.unwrap();
    let log = String::from_utf8(files::read(&world.place.log()).unwrap()).unwrap();
    assert!(log.contains("/satellites/attest"), "Ground Control was never asked:\n{log}");
    arrives(&site, "1", image.root.digest).await;
    reaches(&world, "edge-01", "online").await;
}

/// The same with a power cut between: the key was on the disk before the first try.
#[tokio::test]
async fn a_lost_answer_to_attest_and_a_power_cut() {
    let (world, link) = builtin_behind_link(None).await;
    let image = publish(&world, "one", "1", 1, &[20_000]).await;
    let mut site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    site.set_ground_control_url(link.url());
    link.lose_answers(0, u32::MAX);
    let satellite = site.start().await.unwrap();
    wait_for("a lost answer", LIMIT, async || (link.lost() > 0).then_some(())).await.unwrap();
    satellite.kill().unwrap();
    link.heal();
    let _satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
}

#[tokio::test]
async fn a_lost_answer_to_renew_leaves_a_key_that_renews() {
    let clock = Clock::new().unwrap();
    let (world, link) = builtin_behind_link(Some(&clock)).await;
    let image = publish(&world, "one", "1", 1, &[20_000]).await;
    let mut site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    site.set_ground_control_url(link.url());
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", image.root.digest).await;
    let before = reaches(&world, "edge-01", "online").await;
    assert!(!before.is_null());
    let before = says(&site, "its SVID", |status| !svid_end(status).is_empty()).await;

    let lost = link.lost();
    link.lose_answers(HEAD, u32::MAX);
    clock.advance(15 * HOUR).unwrap();
    let renewals = || {
        let log = String::from_utf8(files::read(&world.place.log()).unwrap()).unwrap();
        log.lines().filter(|line| line.contains("/satellites/renew") && line.contains("POST")).count()
    };
    wait_for("a renewal whose answer was lost", LIMIT, async || {
        (link.lost() > lost && renewals() > 0).then_some(())
    })
    .await
    .unwrap();
    assert_eq!(svid_end(&status(&site).await), svid_end(&before));
    // Killed before it ever sees an answer: the old key still renews.
    satellite.kill().unwrap();
    link.heal();
    let _satellite = site.start().await.unwrap();
    let after = says(&site, "a new SVID", |status| {
        !svid_end(status).is_empty() && svid_end(status) != svid_end(&before)
    })
    .await;
    assert!(after["identity"]["problem"].is_null(), "{after:#}");
    let next = publish(&world, "one", "2", 2, &[20_000]).await;
    arrives(&site, "2", next.root.digest).await;
}
