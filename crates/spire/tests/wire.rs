//! The messages against bytes that SPIRE's own SDK wrote: every field read, and written back to the same bytes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use spire::agent::*;
use spire::server::*;
use spire::types::*;

const RECORDED: &str = include_str!("wire/messages.txt");

fn recorded() -> BTreeMap<&'static str, Vec<u8>> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, hex)| (name, bytes(hex))).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

struct Recorded {
    messages: BTreeMap<&'static str, Vec<u8>>,
    checked: BTreeSet<&'static str>,
}

impl Recorded {
    /// Bytes that come back as they were hold no field that we do not know, and none that we read as another type.
    fn check<T: Message + Default>(&mut self, name: &'static str) -> T {
        let bytes = &self.messages[name];
        let message = T::decode(bytes.as_slice()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&message.encode_to_vec(), bytes, "{name}");
        self.checked.insert(name);
        message
    }
}

#[test]
fn every_message_is_read_and_written_as_spire_does() {
    let mut all = Recorded { messages: recorded(), checked: BTreeSet::new() };

    let entry: Entry = all.check("entry");
    assert_eq!(entry.spiffe_id.unwrap().to_uri(), "spiffe://td/w");
    assert_eq!(entry.parent_id.unwrap().to_uri(), "spiffe://td/agent/a");
    let selectors: Vec<String> = entry.selectors.iter().map(Selector::to_text).collect();
    assert_eq!(selectors, ["unix:uid:0", "docker:label:a:b"]);
    assert_eq!((entry.x509_svid_ttl, entry.jwt_svid_ttl, entry.revision_number), (60, 30, 7));
    assert_eq!((entry.expires_at, entry.created_at), (1_700_000_000, 1_600_000_000));
    assert_eq!((entry.federates_with[0].as_str(), entry.dns_names[0].as_str()), ("other", "a.b"));

    let agent: Agent = all.check("agent");
    assert_eq!(agent.id.unwrap().to_uri(), "spiffe://td/spire/agent/join_token/t");
    assert_eq!((agent.x509svid_serial_number.as_str(), agent.x509svid_expires_at), ("123", 1_700_000_000));
    assert!(agent.banned && agent.can_reattest);

    let filter = all.check::<ListAgentsRequest>("list_agents_request").filter.unwrap();
    assert_eq!((filter.by_banned, filter.by_can_reattest), (Some(false), Some(true)));
    assert_eq!(filter.by_selector_match.unwrap().r#match(), MatchBehavior::Superset);
    let token: CreateJoinTokenRequest = all.check("create_join_token_request");
    assert_eq!((token.ttl, token.agent_id.unwrap().path.as_str()), (600, "/agent/a"));
    let sync: SyncAuthorizedEntriesResponse = all.check("sync_authorized_entries_response");
    assert_eq!((sync.entry_revisions[0].revision_number, sync.entry_revisions[0].created_at), (2, 3));
    let attest: AttestAgentRequest = all.check("attest_params");
    assert!(
        matches!(attest.step, Some(AttestStep::Params(params)) if params.data.as_ref().unwrap().payload == b"t")
    );

    all.check::<EntryMask>("entry_mask");
    all.check::<Bundle>("bundle");
    all.check::<BundleMask>("bundle_mask");
    all.check::<X509Svid>("x509_svid");
    all.check::<Status>("status");
    all.check::<JoinToken>("join_token");
    all.check::<ListAgentsResponse>("list_agents_response");
    all.check::<CountAgentsRequest>("count_agents_request");
    all.check::<CountAgentsResponse>("count_agents_response");
    all.check::<AgentRequest>("get_agent_request");
    all.check::<AgentRequest>("ban_agent_request");
    all.check::<AgentRequest>("delete_agent_request");
    all.check::<ListEntriesRequest>("list_entries_request");
    all.check::<ListEntriesResponse>("list_entries_response");
    all.check::<GetEntryRequest>("get_entry_request");
    all.check::<BatchCreateEntryRequest>("batch_create_entry_request");
    all.check::<BatchCreateEntryResponse>("batch_create_entry_response");
    all.check::<BatchDeleteEntryRequest>("batch_delete_entry_request");
    all.check::<BatchDeleteEntryResponse>("batch_delete_entry_response");
    all.check::<GetBundleRequest>("get_bundle_request");
    all.check::<AttestAgentRequest>("attest_challenge_response");
    all.check::<AttestAgentResponse>("attest_result");
    all.check::<AttestAgentResponse>("attest_challenge");
    all.check::<RenewAgentRequest>("renew_agent_request");
    all.check::<RenewAgentResponse>("renew_agent_response");
    all.check::<PostStatusRequest>("post_status_request");
    all.check::<GetAuthorizedEntriesRequest>("get_authorized_entries_request");
    all.check::<GetAuthorizedEntriesResponse>("get_authorized_entries_response");
    all.check::<SyncAuthorizedEntriesRequest>("sync_authorized_entries_request");
    all.check::<BatchNewX509SvidRequest>("batch_new_x509_svid_request");
    all.check::<BatchNewX509SvidResponse>("batch_new_x509_svid_response");
    all.check::<PermissionDeniedDetails>("permission_denied_details");

    let recorded: BTreeSet<&str> = all.messages.keys().copied().collect();
    assert_eq!(all.checked, recorded, "every recorded message is checked");
}

#[test]
fn no_secret_is_printed() {
    let token = JoinToken { value: "very-secret".into(), expires_at: 5 };
    let data = AttestationData { r#type: "join_token".into(), payload: b"very-secret".to_vec() };
    let request = CreateJoinTokenRequest { ttl: 1, token: "very-secret".into(), agent_id: None };
    let printed = format!("{token:?} {data:?} {request:?}");
    assert!(!printed.contains("very-secret") && !printed.contains("118, 101"), "{printed}");
}
