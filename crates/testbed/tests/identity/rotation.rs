//! SVIDs and authorities that change during a long pull.

use std::process::Command;
use std::time::Duration;

use testbed::process::wait_for;
use testbed::world::World;
use testbed::{command, files};

use crate::support::{
    DAY, HOUR, LIMIT, arrives, builtin_behind_link, publish, reaches, refused, says, svid_end,
};

/// Which authority of the bundle, in the order in which they were made, signed what Ground Control shows now. The test
/// itself lives by the machine's clock, a year before: openssl is told not to look at it.
async fn signer(world: &World) -> usize {
    let registered = world.admin.register("probe", "default", &[]).await.unwrap();
    let mut authorities: Vec<String> =
        registered.trust_bundle.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect();
    assert_eq!(authorities.len(), 2, "{}", registered.trust_bundle);
    authorities.sort_by_key(|pem| begin(pem));
    loop {
        match verifying(world, &authorities).await.as_slice() {
            [one] => return *one,
            // It began to show another one between the two looks.
            [0, 1] => {}
            other => panic!("signed by {other:?}"),
        }
    }
}

/// With which of these authorities what Ground Control shows verifies, looked at one after the other.
async fn verifying(world: &World, authorities: &[String]) -> Vec<usize> {
    let mut trusted = Vec::new();
    for (index, authority) in authorities.iter().enumerate() {
        let file = world.dir().join("authority.pem");
        files::write(&file, authority).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-no_check_time", "-connect", &world.place.spiffe_address(), "-CAfile"]);
        let said = command::output({
            openssl.arg(&file);
            openssl
        })
        .await
        .unwrap();
        if String::from_utf8_lossy(&said.stdout).contains("Verify return code: 0 (ok)") {
            trusted.push(index);
        }
    }
    trusted
}

/// When a certificate begins.
fn begin(pem: &str) -> String {
    let dir = files::scratch("certificate").unwrap();
    let file = dir.path().join("ca.pem");
    files::write(&file, pem).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-startdate", "-dateopt", "iso_8601", "-in"]).arg(&file);
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// During one pull the SVID of the satellite is renewed, the next authority begins to sign, and Ground
/// Control's own SVID is another one. Nothing is refused, nothing is fetched twice.
#[tokio::test]
async fn the_svid_and_the_authority_rotate_during_a_pull() {
    let clock = testbed::clock::Clock::new().unwrap();
    let (mut world, link) = builtin_behind_link(Some(&clock)).await;
    // To the eve of the day on which the second authority signs.
    clock.advance(300 * DAY).unwrap();
    world.kill_ground_control().unwrap();
    world.restart_ground_control().await.unwrap();
    clock.advance(34 * DAY - 6 * HOUR).unwrap();
    world.kill_ground_control().unwrap();
    world.restart_ground_control().await.unwrap();
    world.login().await.unwrap();

    let small = publish(&world, "one", "1", 1, &[20_000]).await;
    let mut site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    site.set_ground_control_url(link.url());
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", small.root.digest).await;
    reaches(&world, "edge-01", "online").await;
    assert_eq!(signer(&world).await, 0, "the first authority signs");
    let before = says(&site, "both authorities", |status| status["identity"]["authorities"] == 2).await;

    let (log, carried) = (files::read(&world.place.log()).unwrap().len(), link.carried());
    // Twice as slow as the pull may last: the machine may be busy, and what is left goes at full speed in the end.
    link.limit(Some(140_000));
    let big = publish(&world, "one", "2", 2, &[7_000_000, 7_000_000]).await;
    wait_for("the pull under way", LIMIT, async || (link.carried() > carried + 500_000).then_some(()))
        .await
        .unwrap();
    // Past half of the SVID's life, and past the day of the second authority.
    clock.advance(15 * HOUR).unwrap();
    let after = says(&site, "a new SVID", |status| svid_end(status) != svid_end(&before)).await;
    // Ground Control looks at its own SVID every half minute.
    wait_for("the second authority's signature", LIMIT, async || (signer(&world).await == 1).then_some(()))
        .await
        .unwrap();
    assert_eq!(site.registry().digest("shop/app", "2").await.unwrap(), None, "the pull was over too soon");
    link.limit(None);
    site.wait_for_tag("shop/app", "2", big.root.digest, Duration::from_secs(90)).await.unwrap();
    arrives(&site, "2", big.root.digest).await;

    assert_eq!(refused(&world.place.log(), log), Vec::<String>::new());
    let total = big.layout.graph(&big.root).unwrap().blob_bytes();
    let spent = link.carried() - carried;
    assert!(spent < total + 2_000_000, "{spent} bytes for {total}");
    assert_eq!(after["failed"], serde_json::json!([]), "{after:#}");

    // And once more by the new authority alone: half a day later both sides show what it signed.
    clock.advance(15 * HOUR).unwrap();
    says(&site, "the next SVID", |status| svid_end(status) != svid_end(&after)).await;
    world.login().await.unwrap();
    let last = publish(&world, "one", "3", 3, &[20_000]).await;
    arrives(&site, "3", last.root.digest).await;
    assert_eq!(refused(&world.place.log(), log), Vec::<String>::new());
    satellite.stop().await.unwrap();
}
