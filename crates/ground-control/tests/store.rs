//! One suite for the store, run on SQLite and on PostgreSQL.
//!
//! On SQLite every case is a test of its own, with a file of its own. On PostgreSQL all cases are one test, which starts a
//! private server (or uses the one at `TEST_POSTGRES_URL`, an administrator's URL) and gives each case a database of
//! its own. Where PostgreSQL is not installed that test fails, unless `SATELLITE_TEST_SKIP_POSTGRES` says why it is left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a test program: what fails ends the test"
)]

#[path = "store/agents.rs"]
mod agents;
#[path = "store/attestation.rs"]
mod attestation;
#[path = "store/audit.rs"]
mod audit;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/external_logins.rs"]
mod external_logins;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/fleet.rs"]
mod fleet;
#[path = "store/following.rs"]
mod following;
#[path = "store/harbor.rs"]
mod harbor;
#[path = "store/idempotency.rs"]
mod idempotency;
#[path = "store/identities.rs"]
mod identities;
#[path = "store/labels.rs"]
mod labels;
#[path = "store/leases.rs"]
mod leases;
#[path = "store/lifecycle.rs"]
mod lifecycle;
#[path = "store/lists.rs"]
mod lists;
#[path = "store/migrations.rs"]
mod migrations;
#[path = "store/outbox.rs"]
mod outbox;
#[path = "store/people.rs"]
mod people;
#[path = "store/publishing.rs"]
mod publishing;
#[path = "store/registration.rs"]
mod registration;
#[path = "store/reports.rs"]
mod reports;
#[path = "store/restoration.rs"]
mod restoration;
#[path = "store/revisions.rs"]
mod revisions;
#[path = "store/rollouts.rs"]
mod rollouts;
#[path = "store/tokens.rs"]
mod tokens;
#[path = "store/versions.rs"]
mod versions;

use fixture::Fixture;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

macro_rules! suite {
    ($($module:ident :: $case:ident,)*) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$module::$case(super::Fixture::sqlite()).await;
                }
            )*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgresql() {
            let Some(server) = fixture::Server::start().await else { return };
            // Each made in a function of its own, and run by one loop: all of them at once would not fit on the stack.
            type Case = (&'static str, fn(Fixture) -> BoxFuture<'static, ()>);
            let cases: &[Case] =
                &[$((stringify!($module::$case), |fixture| $module::$case(fixture).boxed()),)*];
            let mut failed = Vec::new();
            for (name, case) in cases {
                let fixture = server.database().await;
                let location = fixture.location.clone();
                if tokio::spawn(case(fixture)).await.is_err() {
                    failed.push(name);
                }
                server.remove(&location).await;
            }
            assert!(failed.is_empty(), "failed on PostgreSQL: {failed:?}");
        }
    };
}

suite! {
    migrations::an_older_program_boots_on_a_newer_schema,
    leases::one_holds_it_until_it_ends,
    restoration::a_restored_database_is_newer_than_all_before,
    people::accounts_are_managed,
    people::the_last_system_admin_and_oneself_stay,
    people::the_first_account_is_made_once,
    people::sessions_end,
    people::failed_logins_add_up,
    tokens::tokens_are_made_used_and_deleted,
    tokens::tokens_end_with_their_owner_and_are_bounded,
    tokens::the_last_system_admin_keeps_that_role,
    tokens::replicas_share_limits_and_the_key,
    changes::changes_are_told,
    changes::a_listener_that_was_cut_off_says_so,
    changes::publications_are_numbered,
    changes::who_waits_wakes,
    external_logins::a_login_is_taken_once_by_its_browser,
    external_logins::logins_under_way_are_bounded,
    external_logins::a_person_is_an_issuer_and_a_subject,
    external_logins::of_two_first_logins_at_once_one_account_is_made,
    external_logins::an_administrator_with_a_password_stays,
    external_logins::who_lost_every_role_loses_the_sessions,
    external_logins::a_code_is_good_once_for_a_minute_and_for_its_challenge,
    fleet::satellites_are_created_listed_and_deleted,
    fleet::a_satellite_that_cannot_be_created_leaves_nothing_behind,
    fleet::a_name_comes_back_as_another_satellite,
    fleet::lists_are_filtered_and_paged,
    fleet::memberships_and_configs_change,
    fleet::a_robot_may_pull_exactly_what_is_its_own,
    fleet::a_group_keeps_its_list_as_given,
    fleet::a_group_that_goes_takes_its_memberships_along,
    fleet::configs_are_created_patched_and_deleted,
    labels::labels_are_set_and_go_with_their_satellite,
    labels::the_database_chooses_what_the_selector_matches,
    labels::groups_follow_labels_and_selectors,
    labels::a_selector_is_applied_whole,
    lists::pages_together_are_the_list,
    lists::pages_of_a_rollout_are_the_members,
    lists::what_an_older_program_wrote_is_listed,
    following::what_groups_list_is_looked_at_in_turn,
    following::what_a_list_stands_for_is_told_to_its_groups,
    following::a_word_during_a_look_is_not_swallowed,
    following::of_two_replicas_one_looks,
    following::what_moves_is_in_the_audit,
    following::a_claim_is_kept_while_its_look_goes_on,
    following::rules_and_platforms_belong_to_the_list,
    following::an_adapter_adds_to_its_group,
    following::projects_have_policies_while_groups_name_them,
    revisions::every_change_of_a_group_is_a_revision,
    revisions::an_earlier_list_comes_back_as_a_new_revision,
    revisions::the_history_is_bounded_and_ends_with_its_group,
    revisions::what_an_older_program_changed_is_not_lost,
    fleet::text_that_no_database_should_take_is_no_failure,
    fleet::an_older_program_opens_a_newer_database,
    registration::a_nonce_is_answered_until_the_first_heartbeat,
    registration::a_source_is_answered_for_ten_minutes,
    registration::tokens_expire_and_end,
    registration::of_two_claims_at_once_one_is_granted,
    registration::a_previous_secret_is_good_until_the_new_one_is_used,
    reports::reports_are_recorded,
    reports::the_history_is_bounded,
    reports::images_are_replaced_and_paged,
    reports::many_reports_share_a_commit,
    reports::what_says_nothing_new_is_one_row,
    reports::a_list_comes_when_it_is_another,
    reports::nodes_come_when_they_are_others,
    rollouts::drift_is_what_differs,
    rollouts::a_rollout_tells_who_has_it_and_who_not,
    rollouts::drift_agrees_with_the_sets,
    harbor::a_site_is_claimed_once_and_settles,
    harbor::a_token_is_spent_only_for_a_robot_that_is_ready,
    harbor::a_source_that_asks_again_gets_another_robot,
    harbor::the_one_before_is_good_until_the_next_is_used,
    harbor::who_is_shut_out_loses_every_robot,
    harbor::a_group_waits_for_the_robots_of_a_new_project,
    harbor::a_satellite_waits_for_a_robot_that_lacks_a_project,
    harbor::what_cannot_be_given_a_project_is_refused_one,
    identities::a_registration_is_whole_or_not_there,
    identities::a_registration_is_repeated_without_harm,
    identities::a_name_belongs_to_one_region,
    identities::what_was_there_before_gets_an_epoch,
    identities::a_name_introduces_itself_once,
    identities::who_waits_for_approval_gets_nothing,
    identities::what_is_known_of_a_name,
    identities::a_granted_secret_replaces_only_lost_ones,
    attestation::a_join_token_is_bound_to_its_key,
    attestation::a_repeat_voids_only_what_nobody_claimed,
    attestation::of_two_attestations_at_once_one_is_granted,
    attestation::a_new_device_takes_over_when_it_is_used,
    attestation::lost_answers_lock_nobody_out,
    attestation::a_nonce_is_good_once,
    attestation::renewal_ends_with_the_grace,
    attestation::what_is_issued_beside_a_revocation_is_worth_nothing,
    attestation::authorities_are_kept_once,
    lifecycle::a_revoked_satellite_is_refused,
    lifecycle::a_revoked_satellite_is_let_in_by_its_registration,
    lifecycle::a_revoked_satellite_is_let_in_by_a_token,
    lifecycle::only_what_waits_or_is_revoked_is_let_in,
    lifecycle::a_deleted_identity_is_gone,
    lifecycle::silence_makes_stale,
    lifecycle::a_fixed_threshold_counts_instead,
    lifecycle::withdrawals_are_claimed_once_and_tried_again,
    lifecycle::what_came_back_is_not_withdrawn,
    agents::a_node_agent_attests_and_renews,
    agents::an_agent_gets_what_it_serves,
    agents::an_agent_goes_with_the_last_that_needs_it,
    agents::a_banned_agent_attests_anew_after_enabling,
    audit::a_change_is_recorded_as_its_actors,
    audit::a_satellite_is_known_by_its_secret,
    audit::a_change_and_its_row_are_one,
    audit::a_follower_misses_no_row,
    audit::rows_are_chosen_and_paged,
    audit::the_trail_is_bounded,
    audit::a_sink_has_one_holder,
    versions::of_changes_of_one_version_one_is_made,
    versions::what_changed_since_is_not_changed,
    versions::what_is_not_there_meets_no_condition,
    idempotency::the_same_request_is_answered_again,
    idempotency::of_many_at_once_one_is_carried_out,
    idempotency::a_claim_outlives_its_process,
    idempotency::keys_of_a_caller_are_bounded,
    outbox::a_change_and_its_intent_are_one,
    outbox::a_newer_change_is_not_swallowed,
    outbox::two_publishers_never_claim_the_same,
    outbox::failures_and_postponements_come_back_in_time,
    outbox::generations_grow_and_manifests_are_superseded,
    outbox::everything_can_be_asked_for_again,
    publishing::what_was_committed_is_published_after_a_restart,
    publishing::documents_follow_the_records,
    publishing::what_is_named_is_published_first,
    publishing::a_registry_that_fails_is_tried_again,
    publishing::superseded_manifests_go_after_their_grace,
    publishing::a_manifest_that_was_written_and_not_remembered_goes_too,
    publishing::a_wiped_registry_is_filled_again,
    publishing::two_publishers_share_the_work,
}

/// What the disk holds when the power goes is the files as they are: nothing is closed, nothing is written back.
#[tokio::test]
async fn what_was_acknowledged_is_in_the_files() {
    let fixture = Fixture::sqlite();
    let store = fixture.ready().await;
    fixture::satellite(&store, "edge-01", &[]).await;
    let copy = Fixture::sqlite();
    for file in ["ground-control.db", "ground-control.db-wal"] {
        std::fs::copy(fixture.dir.path().join(file), copy.dir.path().join(file)).unwrap();
    }
    let after = copy.open().await;
    assert_eq!(after.satellite("edge-01").await.unwrap(), store.satellite("edge-01").await.unwrap());
    assert_eq!(fixture::published(&after, fixture::at(5)).await, ["satellite/edge-01"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_file_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = Fixture::sqlite();
    let store = fixture.ready().await;
    for file in ["ground-control.db", "ground-control.db-wal", "ground-control.db-shm"] {
        let mode = std::fs::metadata(fixture.dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    store.close().await;
}
