//! A satellite's way to its identity, and back to it after whatever went wrong.

use identity::key::KeyPair;
use serde_json::json;

use crate::support::{Cloud, identity_of, renewal};

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_join_token_to_credentials_of_the_registry() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let (key, stranger) = (key(), cloud.stranger(&site.trust_bundle));
    let lost = stranger.attest(&site.join_token, &key).await.svid();
    // The answer was lost; the same key gets another.
    let svid = stranger.attest(&site.join_token, &key).await.svid();
    assert_ne!(lost.svid, svid.svid);
    stranger.attest(&site.join_token, &self::key()).await.expect(401);
    let known = cloud.known(&identity_of(&svid, &key));
    let state = known.get("/satellites/spiffe-ztr").await.expect(200);
    assert_eq!(state["auth"]["username"], "robot$edge-01");
    // It arrived, and so nobody gets another with this token.
    stranger.attest(&site.join_token, &key).await.expect(401);
    // The SVID that was lost on its way is of the same identity and key.
    cloud.known(&identity_of(&lost, &key)).get("/satellites/spiffe-ztr").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_is_wrong() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let stranger = cloud.stranger(&site.trust_bundle);
    let unknown = stranger.attest("0123456789abcdef0123456789abcdef", &key()).await.expect(400);
    assert_eq!(unknown["code"], 400);
    assert!(unknown["message"].as_str().unwrap().contains("not known"));
    for body in [
        json!({}),
        json!({"join_token": site.join_token, "csr": "no request"}),
        json!({"join_token": site.join_token, "csr": ""}),
        json!([site.join_token]),
    ] {
        stranger.post("/satellites/attest", &body).await.expect(400);
    }
    let long = json!({"join_token": site.join_token, "csr": "x".repeat(100_000)});
    stranger.post("/satellites/attest", &long).await.expect(413);
    // Whoever was refused has cost the token nothing; an earlier token is closed by the next.
    let next = cloud.register("edge-01").await;
    stranger.attest(&site.join_token, &key()).await.expect(401);
    cloud.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    stranger.attest(&next.join_token, &key()).await.expect(403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_may_be_lost_and_is_never_replayed() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let (first, second, third) = (key(), key(), key());
    let stranger = cloud.stranger(&site.trust_bundle);
    let svid = stranger.attest(&site.join_token, &first).await.svid();
    cloud.known(&identity_of(&svid, &first)).get("/satellites/spiffe-ztr").await.expect(200);

    let nonce = stranger.get("/satellites/renew").await.expect(200);
    let body = renewal(&site.spiffe_id, nonce["nonce"].as_str().unwrap(), &first, &second);
    stranger.post("/satellites/renew", &body).await.svid();
    stranger.post("/satellites/renew", &body).await.expect(401);
    // Its answer was lost: the first key asks again, for the same key and for another.
    stranger.renew(&site.spiffe_id, &first, &second).await.svid();
    let svid = stranger.renew(&site.spiffe_id, &first, &third).await.svid();
    stranger.renew(&site.spiffe_id, &key(), &third).await.expect(401);
    cloud.known(&identity_of(&svid, &third)).get("/satellites/spiffe-ztr").await.expect(200);
    stranger.renew(&site.spiffe_id, &first, &key()).await.expect(401);
    stranger.renew(&site.spiffe_id, &third, &key()).await.svid();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_devices_with_one_token_are_one_device() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let stranger = cloud.stranger(&site.trust_bundle);
    let tries = (0..12).map(|_| {
        let (stranger, token) = (stranger.clone(), site.join_token.clone());
        tokio::spawn(async move { stranger.attest(&token, &key()).await.status.as_u16() })
    });
    let mut codes: Vec<u16> =
        futures_util::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    codes.sort_unstable();
    assert_eq!((codes[0], codes[1], codes[11]), (200, 401, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_revoked_and_the_deleted_have_no_way_back_but_a_new_token() {
    let cloud = Cloud::start().await;
    let site = cloud.register("edge-01").await;
    let (old, new) = (key(), key());
    let stranger = cloud.stranger(&site.trust_bundle);
    let svid = stranger.attest(&site.join_token, &old).await.svid();
    let known = cloud.known(&identity_of(&svid, &old));
    known.get("/satellites/spiffe-ztr").await.expect(200);
    cloud.admin("POST", "/api/satellites/edge-01/revoke", None).await.expect(200);
    known.get("/satellites/spiffe-ztr").await.expect(403);
    stranger.renew(&site.spiffe_id, &old, &new).await.expect(403);
    // Let in again: with the new token, while what was issued before stays worthless.
    let again = cloud.admin("POST", "/api/satellites/edge-01/enable", None).await.expect(200);
    known.get("/satellites/spiffe-ztr").await.expect(401);
    stranger.renew(&site.spiffe_id, &old, &new).await.expect(401);
    let svid = stranger.attest(again["join_token"].as_str().unwrap(), &new).await.svid();
    let known = cloud.known(&identity_of(&svid, &new));
    known.get("/satellites/spiffe-ztr").await.expect(200);
    cloud.admin("DELETE", "/api/satellites/edge-01", None).await.expect(200);
    known.get("/satellites/spiffe-ztr").await.expect(401);
    stranger.renew(&site.spiffe_id, &new, &key()).await.expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authority_the_routes_say_so() {
    let cloud = Cloud::start_with(&[]).await;
    let attest = json!({"join_token": "0123456789abcdef0123456789abcdef", "csr": ""});
    for (method, path, body) in [
        ("POST", "/satellites/attest", Some(attest)),
        ("GET", "/satellites/renew", None),
        (
            "POST",
            "/satellites/renew",
            Some(json!({"csr": "", "spiffe_id": "", "nonce": "", "signature": ""})),
        ),
    ] {
        let refusal = cloud.admin(method, path, body).await.expect(404);
        assert!(refusal["message"].as_str().unwrap().contains("built-in authority"), "{refusal}");
    }
}
