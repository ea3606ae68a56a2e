//! What is recorded of robots beside what Harbor lists: what somebody deleted or disabled there, and what nobody here knows.

use std::collections::{BTreeMap, BTreeSet};

use super::RobotRole;
use crate::SatelliteId;

/// What stands in the description of every robot that a Ground Control makes, before our identifier of it.
pub const MADE_BY: &str = "made by Ground Control (";

/// A robot that is recorded to be at Harbor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRobot {
    /// Our own identifier.
    pub id: String,
    /// Whose it is.
    pub satellite: SatelliteId,
    /// That satellite's name.
    pub satellite_name: String,
    /// Harbor's identifier.
    pub harbor_id: i64,
    /// Where it stands.
    pub role: RobotRole,
    /// That it is not at Harbor any more is known.
    pub gone: bool,
}

impl KnownRobot {
    fn is_live(&self) -> bool {
        matches!(self.role, RobotRole::Prepared | RobotRole::Current | RobotRole::Retiring) && !self.gone
    }
}

/// A robot as Harbor lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRobot {
    /// Harbor's identifier, which is never used twice.
    pub harbor_id: i64,
    /// Its full name.
    pub name: String,
    /// What people read beside it.
    pub description: String,
    /// Whether somebody has shut it out.
    pub disabled: bool,
    /// Made a moment ago: its record may not say yet that it is.
    pub recent: bool,
}

/// How the two differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// A satellite works with them, or will, and Harbor does not list them. A list of many pages may have missed one.
    pub missing: Vec<KnownRobot>,
    /// A satellite works with them, and somebody disabled them: with Harbor's names.
    pub disabled: Vec<(KnownRobot, String)>,
    /// They look like ours by their description, and no record is of them: Harbor's names. Another Ground Control may have made
    /// them, or this one before its database was restored.
    pub unknown: BTreeSet<String>,
}

/// Compares what was recorded `before` the list was read, and what is `after` that, with the list.
pub fn compare(before: &[KnownRobot], listed: &[ListedRobot], after: &[KnownRobot]) -> Difference {
    let by_id: BTreeMap<i64, &ListedRobot> = listed.iter().map(|robot| (robot.harbor_id, robot)).collect();
    let known: BTreeSet<i64> = before.iter().chain(after).map(|robot| robot.harbor_id).collect();
    let mut difference = Difference::default();
    for robot in before.iter().filter(|robot| robot.is_live()) {
        match by_id.get(&robot.harbor_id) {
            None => difference.missing.push(robot.clone()),
            Some(found) if found.disabled => difference.disabled.push((robot.clone(), found.name.clone())),
            Some(_) => {}
        }
    }
    let unknown = listed.iter().filter(|robot| {
        robot.description.contains(MADE_BY) && !robot.recent && !known.contains(&robot.harbor_id)
    });
    difference.unknown = unknown.map(|robot| robot.name.clone()).collect();
    difference
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(harbor_id: i64, role: RobotRole) -> KnownRobot {
        let satellite = SatelliteId::from(format!("satellite-{harbor_id}"));
        KnownRobot {
            id: harbor_id.to_string(),
            satellite,
            satellite_name: "edge-01".into(),
            harbor_id,
            role,
            gone: false,
        }
    }

    fn listed(harbor_id: i64, description: &str, disabled: bool) -> ListedRobot {
        ListedRobot {
            harbor_id,
            name: format!("robot${harbor_id}"),
            description: description.into(),
            disabled,
            recent: false,
        }
    }

    #[test]
    fn what_is_missing_disabled_or_unknown_is_told_apart() {
        let ours = format!("satellite edge-01, {MADE_BY}1)");
        let before = [
            known(1, RobotRole::Current),
            known(2, RobotRole::Current),
            known(3, RobotRole::Condemned),
            known(4, RobotRole::Prepared),
        ];
        let list = [
            listed(2, &ours, true),
            listed(4, &ours, false),
            listed(5, &ours, false),
            listed(6, "somebody's", false),
            listed(7, &ours, false),
            ListedRobot { recent: true, ..listed(8, &ours, false) },
        ];
        let difference = compare(&before, &list, &[known(5, RobotRole::Prepared)]);
        assert_eq!(difference.missing, [known(1, RobotRole::Current)]);
        assert_eq!(difference.disabled, [(known(2, RobotRole::Current), "robot$2".to_owned())]);
        assert_eq!(difference.unknown, BTreeSet::from(["robot$7".to_owned()]));
    }

    proptest! {
        /// A Harbor that has what is recorded differs in nothing, whatever else it has.
        #[test]
        fn nothing_differs_where_all_is_there(ids in prop::collection::btree_set(1_i64..500, 0..40), more in 500_i64..600) {
            let all: Vec<KnownRobot> = ids.iter().map(|id| known(*id, RobotRole::Current)).collect();
            let mut list: Vec<ListedRobot> = ids.iter().map(|id| listed(*id, MADE_BY, false)).collect();
            list.push(listed(more, "somebody's", true));
            prop_assert_eq!(compare(&all, &list, &all), Difference::default());
        }
    }
}
