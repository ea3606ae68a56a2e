//! One configuration through all that happens to an identity: none yet, rotation, withdrawal, expiry.

use identity::tls::{bootstrap_client_config, client_config, server_config};
use identity::{IdentityKeeper, identity};

use crate::ca::{Ca, EDGE, EXPIRED, GC, Spec, bundle};
use crate::handshake::{ALPN, exactly, holding, meet};

#[tokio::test]
async fn without_an_identity_every_handshake_fails() {
    let ca = Ca::root();
    let (gc_keeper, gc) = identity();
    let (edge_keeper, edge) = identity();
    let server = server_config(&gc, ALPN).unwrap();
    let client = client_config(&edge, exactly(GC), ALPN).unwrap();
    let bootstrap = bootstrap_client_config(bundle(&[&ca]), exactly(GC), ALPN).unwrap();
    meet(&server, &client).await.refused();
    meet(&server, &bootstrap).await.refused();
    gc_keeper.set(ca.svid(GC), bundle(&[&ca]));
    meet(&server, &client).await.refused();
    meet(&server, &bootstrap).await.ok(None, GC);
    edge_keeper.set(ca.svid(EDGE), bundle(&[&ca]));
    meet(&server, &client).await.ok(Some(EDGE), GC);
    edge_keeper.withdraw();
    meet(&server, &client).await.refused();
    edge_keeper.set(ca.svid(EDGE), bundle(&[&ca]));
    meet(&server, &client).await.ok(Some(EDGE), GC);
    gc_keeper.withdraw();
    meet(&server, &client).await.refused();
    meet(&server, &bootstrap).await.refused();
}

#[tokio::test]
async fn an_expired_svid_of_our_own_is_never_shown() {
    let ca = Ca::root();
    let expired = |id| ca.issue(&Spec { validity: EXPIRED, ..Spec::of(&[id]) }).svid();
    let (gc_keeper, gc) = holding(ca.svid(GC), bundle(&[&ca]));
    let (edge_keeper, edge) = holding(ca.svid(EDGE), bundle(&[&ca]));
    let server = server_config(&gc, ALPN).unwrap();
    let client = client_config(&edge, exactly(GC), ALPN).unwrap();
    meet(&server, &client).await.ok(Some(EDGE), GC);
    edge_keeper.set(expired(EDGE), bundle(&[&ca]));
    let met = meet(&server, &client).await;
    met.refused();
    assert!(met.client.unwrap_err().contains("our own SVID"), "it says why");
    edge_keeper.set(ca.svid(EDGE), bundle(&[&ca]));
    gc_keeper.set(expired(GC), bundle(&[&ca]));
    meet(&server, &client).await.refused();
}

#[tokio::test]
async fn svid_and_authorities_rotate_under_one_configuration() {
    let (old, new) = (Ca::root(), Ca::root());
    let (gc_keeper, gc) = holding(old.svid(GC), bundle(&[&old]));
    let (edge_keeper, edge) = holding(old.svid(EDGE), bundle(&[&old]));
    let server = server_config(&gc, ALPN).unwrap();
    let client = client_config(&edge, exactly(GC), ALPN).unwrap();
    let set =
        |keeper: &IdentityKeeper, id, signer: &Ca, roots: &[&Ca]| keeper.set(signer.svid(id), bundle(roots));
    let steps: [(&str, &Ca, &Ca, &[&Ca]); 5] = [
        ("new SVIDs", &old, &old, &[&old]),
        ("the new authority is announced", &old, &old, &[&old, &new]),
        ("it signs for the edge", &old, &new, &[&old, &new]),
        ("it signs for all", &new, &new, &[&old, &new]),
        ("the old one is forgotten", &new, &new, &[&new]),
    ];
    for (_step, for_gc, for_edge, roots) in steps {
        // One side at a time, as it goes in a fleet: there is no moment at which they do not know each other.
        set(&gc_keeper, GC, for_gc, roots);
        meet(&server, &client).await.ok(Some(EDGE), GC);
        set(&edge_keeper, EDGE, for_edge, roots);
        meet(&server, &client).await.ok(Some(EDGE), GC);
    }
    // Who slept through it all is a stranger, on either side.
    set(&edge_keeper, EDGE, &old, &[&old]);
    meet(&server, &client).await.refused();
    set(&edge_keeper, EDGE, &old, &[&old, &new]);
    meet(&server, &client).await.refused();
    set(&edge_keeper, EDGE, &new, &[&new]);
    set(&gc_keeper, GC, &old, &[&old, &new]);
    meet(&server, &client).await.refused();
}
