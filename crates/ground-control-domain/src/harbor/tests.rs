//! Whatever is recorded of a site, the steps lead to what it should have, and then to rest.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;

const DAYS: u32 = 30;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn robot() -> impl Strategy<Value = SiteRobot> {
    let projects = subsequence(vec!["satellite", "apps", "library"], 0..=3);
    let end = prop_oneof![Just(None), (-40_i64..80).prop_map(Some)];
    (select(RobotRole::ALL.to_vec()), any::<(bool, bool, bool)>(), projects, end).prop_map(
        |(role, (tried, gone, known), projects, end)| {
            let made = !matches!(role, RobotRole::Making | RobotRole::Removed)
                && (known || role != RobotRole::Condemned);
            SiteRobot {
                id: String::new(),
                role,
                number: 0,
                attempt: "edge-01".into(),
                tried,
                gone: gone && made,
                harbor_id: made.then_some(1),
                username: made.then(|| "robot$edge-01".to_owned()),
                secret: None,
                projects: projects.into_iter().map(str::to_owned).collect(),
                created_at: made.then(now),
                expires_at: end.map(|days| now() + SignedDuration::from_hours(24 * days)),
                given_at: None,
                used_at: None,
            }
        },
    )
}

/// At most one of each role that there is one of.
fn site() -> impl Strategy<Value = Site> {
    let wanted = subsequence(vec!["apps", "library"], 0..=2);
    (proptest::collection::vec(robot(), 0..6), any::<(bool, bool, bool)>(), wanted).prop_map(
        |(mut robots, (admitted, token_only, wants_fresh), wanted)| {
            let single = [RobotRole::Making, RobotRole::Prepared, RobotRole::Current, RobotRole::Retiring];
            for role in single {
                let mut seen = false;
                robots.retain(|r| r.role != role || !std::mem::replace(&mut seen, true));
            }
            for (n, robot) in robots.iter_mut().enumerate() {
                robot.id = n.to_string();
            }
            let mut wanted: BTreeSet<String> = wanted.into_iter().map(str::to_owned).collect();
            wanted.insert(STATE_PROJECT.to_owned());
            Site {
                satellite: SatelliteId::generate(),
                name: "edge-01".into(),
                admitted,
                token_only,
                wanted,
                wants_fresh,
                asked: 1,
                attempts: 0,
                robots,
            }
        },
    )
}

/// Does a step as a Harbor that never fails would.
fn act(site: &mut Site, account: Account) -> bool {
    enum Act {
        Untry(String),
        Drop(String),
        Role(String, RobotRole),
        Begin,
        Made(String),
        Permit(String),
        Extend(String),
    }
    let end = now() + SignedDuration::from_hours(24 * i64::from(DAYS));
    let act = match next(site, account, DAYS, now()) {
        Step::Recover(r) => Act::Untry(r.id.clone()),
        Step::Forget(r) | Step::Delete(r) => Act::Drop(r.id.clone()),
        Step::Condemn(r) => Act::Role(r.id.clone(), RobotRole::Condemned),
        Step::Begin => Act::Begin,
        Step::Create(r) => Act::Made(r.id.clone()),
        Step::Permit(r) => Act::Permit(r.id.clone()),
        Step::Extend(r) => Act::Extend(r.id.clone()),
        Step::Rest(_) => return false,
    };
    let never = for_ever(site, account);
    let (wanted, count) = (site.wanted.clone(), site.robots.len());
    let find = |robots: &mut Vec<SiteRobot>, id: &str, change: &dyn Fn(&mut SiteRobot)| {
        change(robots.iter_mut().find(|r| r.id == id).unwrap());
    };
    match act {
        Act::Untry(id) => find(&mut site.robots, &id, &|r| r.tried = false),
        Act::Drop(id) => site.robots.retain(|r| r.id != id),
        Act::Role(id, role) => find(&mut site.robots, &id, &|r| r.role = role),
        Act::Begin => site.robots.push(SiteRobot {
            id: format!("new {count} {}", site.asked),
            role: RobotRole::Making,
            number: 0,
            attempt: "edge-01".into(),
            tried: false,
            gone: false,
            harbor_id: None,
            username: None,
            secret: None,
            projects: BTreeSet::new(),
            created_at: None,
            expires_at: None,
            given_at: None,
            used_at: None,
        }),
        Act::Made(id) => find(&mut site.robots, &id, &|r| {
            r.role = RobotRole::Prepared;
            r.harbor_id = Some(2);
            r.projects.clone_from(&wanted);
            r.expires_at = (!never).then_some(end);
        }),
        Act::Permit(id) => find(&mut site.robots, &id, &|r| r.projects.clone_from(&wanted)),
        Act::Extend(id) => find(&mut site.robots, &id, &|r| r.expires_at = Some(end)),
    }
    true
}

proptest! {
    #[test]
    fn the_steps_come_to_an_end_that_is_right(
        mut site in site(), account in select(vec![Account::User, Account::Robot])
    ) {
        let had_current = site.robots.iter().any(|r| r.role == RobotRole::Current && r.is_live());
        let mut steps = 0;
        while act(&mut site, account) {
            steps += 1;
            prop_assert!(steps < 40, "{site:?}");
        }
        let count = |role| site.in_role(role).count();
        prop_assert_eq!(count(RobotRole::Making) + count(RobotRole::Condemned), 0);
        if !site.admitted {
            prop_assert!(site.robots.iter().all(|r| r.role == RobotRole::Removed));
            return Ok(());
        }
        // There is one to work with, and what can be brought up to date is.
        let good = |r: &&SiteRobot| r.is_live() && r.projects == site.wanted
            && r.expires_at.is_none_or(|end| end > now());
        let usable = site.robots.iter().filter(good).count();
        prop_assert!(usable >= 1, "{:?}", site);
        prop_assert!(count(RobotRole::Prepared) <= 1);
        if account == Account::User {
            prop_assert!(site.robots.iter().filter(|r| r.is_live()).all(|r| r.projects == site.wanted));
        }
        if site.wants_fresh {
            prop_assert_eq!(count(RobotRole::Prepared), 1);
        }
        // What a satellite works with is never taken from it.
        prop_assert_eq!(had_current, site.in_role(RobotRole::Current).any(SiteRobot::is_live));
    }

    #[test]
    fn who_rests_looks_again_before_a_robot_ends(mut site in site()) {
        while act(&mut site, Account::User) {}
        let Step::Rest(rest) = next(&site, Account::User, DAYS, now()) else { panic!("no rest") };
        if !site.admitted {
            return Ok(());
        }
        for end in site.robots.iter().filter(|r| r.is_live()).filter_map(|r| r.expires_at) {
            prop_assert!(rest.is_some_and(|rest| rest < end), "{rest:?} {end}");
        }
    }

    #[test]
    fn names_are_ones_that_harbor_takes(
        name in "[a-z0-9]{1,5}([._-][a-z0-9]{1,5}){0,60}", number in 0_u32..20, chance: u32
    ) {
        let robot = robot_name(&name, number, chance);
        prop_assert!(robot.len() <= 255);
        let run = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        prop_assert!(robot.split(['.', '_', '-']).all(run), "{robot}");
    }
}

#[test]
fn the_first_names_are_the_satellites_own() {
    assert_eq!(robot_name("edge-01", 0, 7), "edge-01");
    assert_eq!(robot_name("edge-01", 1, 7), "edge-01-2");
    assert_eq!(robot_name("edge-01", 9, 7), "edge-01-000007");
    assert_eq!(project_of("library/nginx/x"), Some("library"));
    assert_eq!(project_of("nginx"), None);
}

#[test]
fn roles_read_back() {
    for role in RobotRole::ALL {
        assert_eq!(role.as_str().parse(), Ok(role));
    }
}
