//! Node agents of the built-in authority.

use ground_control::domain::identity::{AttestAttempt, Enabling, IssueGrant, IssueRefusal, NewRegistration};
use ground_control::store::SharedStore;
use jiff::SignedDuration;

use crate::fixture::{DAY, Fixture, agent_of, at, enrolled, hashed, known, registration};

/// A node agent attests with a join token of the satellite whose token it is.
async fn attest(
    store: &SharedStore,
    token: &str,
    agent: &str,
    key: &str,
    now: i64,
) -> Result<IssueGrant, IssueRefusal> {
    let attempt = AttestAttempt {
        token: hashed(token),
        public_key: key.into(),
        expires_at: at(now) + DAY,
        agent: Some(agent.into()),
    };
    store.attest(attempt, at(now)).await.unwrap()
}

async fn keys(store: &SharedStore, agent: &str) -> Vec<String> {
    store.node_agent(agent).await.unwrap().unwrap().keys
}

async fn banned(store: &SharedStore, agent: &str) -> bool {
    store.node_agent(agent).await.unwrap().unwrap().banned
}

pub(crate) async fn a_node_agent_attests_and_renews(fixture: Fixture) {
    let store = fixture.ready().await;
    let made = enrolled(&store, "edge-01", "token", 0).await;
    assert_eq!(store.node_agent("one").await.unwrap(), None);
    assert_eq!(attest(&store, "no token", "one", "a", 1).await, Err(IssueRefusal::Unknown));
    attest(&store, "token", "one", "a", 1).await.unwrap();
    assert!(attest(&store, "token", "one", "a", 2).await.unwrap().again);
    assert_eq!(attest(&store, "token", "one", "b", 2).await, Err(IssueRefusal::Used));
    let agent = store.node_agent("one").await.unwrap().unwrap();
    assert_eq!((&agent.satellite.satellite, agent.spiffe_id.as_str()), (&made.id, "one"));
    assert_eq!((agent.keys, agent.expires_at, agent.banned), (vec!["a".to_owned()], at(2) + DAY, false));
    // The agent's key is not the satellite's.
    assert!(store.renewal_record("edge-01").await.unwrap().is_none());
    assert!(!known(&store, "edge-01").await.awaits_use);

    store.agent_used("one", "another").await.unwrap();
    assert!(attest(&store, "token", "one", "a", 3).await.is_ok());
    store.agent_used("one", "a").await.unwrap();
    assert_eq!(attest(&store, "token", "one", "a", 4).await, Err(IssueRefusal::Used));

    // Answers are lost: the key in use stays until the new one is used.
    store.renew_agent("one", "b", at(5) + DAY).await.unwrap();
    store.renew_agent("one", "c", at(6) + DAY).await.unwrap();
    assert_eq!(keys(&store, "one").await, ["c", "a"]);
    store.agent_used("one", "a").await.unwrap();
    assert_eq!(keys(&store, "one").await, ["c", "a"]);
    store.renew_agent("one", "c", at(7) + DAY).await.unwrap();
    assert_eq!(keys(&store, "one").await, ["c", "a"]);
    store.agent_used("one", "c").await.unwrap();
    assert_eq!(keys(&store, "one").await, ["c"]);
    assert_eq!(store.node_agent("one").await.unwrap().unwrap().expires_at, at(7) + DAY);

    // A fresh token, another agent; the first one's SVID has ended by then.
    enrolled(&store, "edge-01", "later", 200_000).await;
    attest(&store, "later", "two", "d", 200_001).await.unwrap();
    let agents: Vec<_> =
        store.node_agents(10).await.unwrap().into_iter().map(|agent| agent.spiffe_id).collect();
    assert_eq!(agents, ["two"]);
    enrolled(&store, "edge-02", "other", 200_000).await;
    attest(&store, "other", "three", "e", 200_001).await.unwrap();
    assert_eq!(store.node_agents(10).await.unwrap().len(), 2);
    assert_eq!(store.node_agents(1).await.unwrap()[0].spiffe_id, "three");
}

pub(crate) async fn an_agent_gets_what_it_serves(fixture: Fixture) {
    let store = fixture.ready().await;
    let parent = agent_of("site");
    for name in ["edge-02", "edge-01", "edge-03"] {
        let new = NewRegistration { parent_id: parent.clone(), ..registration(name, name, 1) };
        store.register_identity(new, at(1)).await.unwrap();
    }
    enrolled(&store, "elsewhere", "token", 1).await;
    let served = async || {
        let entries = store.agent_entries(&parent).await.unwrap();
        entries.into_iter().map(|entry| entry.registration.name).collect::<Vec<_>>()
    };
    assert_eq!(served().await, ["edge-01", "edge-02", "edge-03"]);
    let entry = store.agent_entries(&parent).await.unwrap().remove(0);
    assert_eq!((entry.epoch, entry.updated_at), (known(&store, "edge-01").await.epoch, at(1)));
    assert_eq!(entry.registration.selectors, ["unix:uid:0"]);

    store.revoke_satellite("edge-02", at(2)).await.unwrap();
    assert_eq!(served().await, ["edge-01", "edge-03"]);
    store.delete_satellite("edge-03", at(3)).await.unwrap();
    assert_eq!(served().await, ["edge-01"]);
    // Let in by a token, it is not the agent's to serve.
    let how = Enabling::Token { token: hashed("t"), expires_at: at(1000) };
    store.enable_satellite("edge-02", how, at(4)).await.unwrap();
    assert_eq!(served().await, ["edge-01"]);
    let again = NewRegistration { parent_id: parent.clone(), ..registration("edge-02", "fresh", 5) };
    store.register_identity(again, at(5)).await.unwrap();
    assert_eq!(served().await, ["edge-01", "edge-02"]);
    let entries = store.agent_entries(&parent).await.unwrap();
    assert_eq!(entries[1].updated_at, at(5));
    assert!(store.agent_entries("nobody").await.unwrap().is_empty());
}

pub(crate) async fn an_agent_goes_with_the_last_that_needs_it(fixture: Fixture) {
    let store = fixture.ready().await;
    let retry = SignedDuration::from_secs(60);
    let parent = agent_of("edge-01");
    enrolled(&store, "edge-01", "token", 1).await;
    let other = NewRegistration { parent_id: parent.clone(), ..registration("edge-02", "unused", 1) };
    store.register_identity(other, at(1)).await.unwrap();
    enrolled(&store, "edge-03", "third", 1).await;
    attest(&store, "token", "agent", "a", 2).await.unwrap();
    attest(&store, "third", "stranger", "b", 2).await.unwrap();
    assert!(store.agent_serves_others(&parent, "edge-01").await.unwrap());
    assert!(!store.agent_serves_others(&agent_of("edge-03"), "edge-03").await.unwrap());

    // The satellite whose token it came with goes; the other one still needs it.
    store.revoke_satellite("edge-01", at(3)).await.unwrap();
    assert!(!banned(&store, "agent").await);
    let due = store.due_withdrawals(at(3), retry, 10).await.unwrap();
    assert_eq!((due.len(), due[0].agent_is_unused), (1, false));
    assert!(!store.agent_serves_others(&parent, "edge-02").await.unwrap());
    store.delete_satellite("edge-02", at(4)).await.unwrap();
    assert!(banned(&store, "agent").await);
    let due = store.due_withdrawals(at(4), retry, 10).await.unwrap();
    assert_eq!((due.len(), due[0].agent_is_unused), (1, true));

    let left: Vec<_> = store.node_agents(10).await.unwrap().into_iter().map(|a| a.spiffe_id).collect();
    assert_eq!(left, ["stranger"]);
    // A banned agent renews nothing.
    store.renew_agent("agent", "next", at(5) + DAY).await.unwrap();
    assert_eq!(keys(&store, "agent").await, ["a"]);
    let third = known(&store, "edge-03").await.satellite;
    store.ban_agents(&third, at(6)).await.unwrap();
    assert!(banned(&store, "stranger").await);
}

pub(crate) async fn a_banned_agent_attests_anew_after_enabling(fixture: Fixture) {
    let store = fixture.ready().await;
    enrolled(&store, "edge-01", "token", 1).await;
    attest(&store, "token", "agent", "a", 2).await.unwrap();
    store.revoke_satellite("edge-01", at(3)).await.unwrap();
    assert!(banned(&store, "agent").await);
    enrolled(&store, "edge-01", "fresh", 4).await;
    // Unbanned, and with nothing in hand.
    assert_eq!(store.node_agent("agent").await.unwrap(), None);
    assert_eq!(attest(&store, "token", "agent", "a", 5).await, Err(IssueRefusal::Used));
    attest(&store, "fresh", "agent", "b", 5).await.unwrap();
    assert_eq!(keys(&store, "agent").await, ["b"]);

    // The same after a deletion: what the name's next life attests is let in.
    store.delete_satellite("edge-01", at(6)).await.unwrap();
    assert!(banned(&store, "agent").await);
    let next = enrolled(&store, "edge-01", "next life", 7).await;
    attest(&store, "next life", "agent", "c", 8).await.unwrap();
    let agent = store.node_agent("agent").await.unwrap().unwrap();
    assert_eq!((agent.satellite.satellite, agent.keys, agent.banned), (next.id, vec!["c".to_owned()], false));
}
