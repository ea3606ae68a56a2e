//! Rights of robots as sets: Harbor gives them back in another order from read to read, and takes one project twice.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where rights hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// `project` or `system`.
    pub kind: String,
    /// A project's name, `*` for all projects, or `/` for the system.
    pub namespace: String,
}

impl Scope {
    /// One project.
    pub fn project(name: impl Into<String>) -> Self {
        Self { kind: "project".to_owned(), namespace: name.into() }
    }
}

/// One right, for example `repository` and `pull`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Access {
    /// What it is about.
    pub resource: String,
    /// What may be done.
    pub action: String,
}

impl Access {
    /// A right.
    pub fn new(resource: impl Into<String>, action: impl Into<String>) -> Self {
        Self { resource: resource.into(), action: action.into() }
    }
}

/// All rights of a robot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions(BTreeMap<Scope, BTreeSet<Access>>);

impl Permissions {
    /// What a site needs of each project: to pull, and to look at repositories and artifacts.
    pub fn pull<P: Into<String>>(projects: impl IntoIterator<Item = P>) -> Self {
        let mut all = Self::default();
        for project in projects {
            let scope = Scope::project(project);
            for (resource, action) in [("repository", "pull"), ("repository", "read"), ("artifact", "read")] {
                all.add(scope.clone(), Access::new(resource, action));
            }
        }
        all
    }

    /// Adds a right.
    pub fn add(&mut self, scope: Scope, access: Access) {
        self.0.entry(scope).or_default().insert(access);
    }

    /// Whether there is no right at all.
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeSet::is_empty)
    }

    /// The names of the projects, `*` among them where rights on all were given.
    pub fn projects(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter(|scope| scope.kind == "project").map(|scope| scope.namespace.as_str())
    }

    /// Whether they hold all of `wanted`: rights on `*` hold on every project.
    pub fn cover(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(scope, access)| {
            let own = self.0.get(scope);
            let everywhere = (scope.kind == "project").then(|| self.0.get(&Scope::project("*"))).flatten();
            access.iter().all(|right| [own, everywhere].into_iter().flatten().any(|has| has.contains(right)))
        })
    }
}

/// The form on the wire.
#[derive(Serialize, Deserialize)]
struct Entry {
    kind: String,
    namespace: String,
    #[serde(default)]
    access: Option<Vec<Access>>,
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // An empty `access` is refused with 400.
        serializer.collect_seq(self.0.iter().filter(|(_, access)| !access.is_empty()).map(
            |(scope, access)| Entry {
                kind: scope.kind.clone(),
                namespace: scope.namespace.clone(),
                access: Some(access.iter().cloned().collect()),
            },
        ))
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = Option::<Vec<Entry>>::deserialize(deserializer)?.unwrap_or_default();
        let mut all = Self::default();
        for entry in entries {
            let scope = Scope { kind: entry.kind, namespace: entry.namespace };
            for access in entry.access.unwrap_or_default() {
                all.add(scope.clone(), access);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permissions() -> impl Strategy<Value = Permissions> {
        let entry = ("[a-c*]", "repository|artifact", "pull|read|list");
        proptest::collection::vec(entry, 0..12).prop_map(|entries| {
            let mut all = Permissions::default();
            for (project, resource, action) in entries {
                all.add(Scope::project(project), Access::new(resource, action));
            }
            all
        })
    }

    #[test]
    fn order_and_doubles_do_not_matter() {
        let one: Permissions = serde_json::from_str(
            r#"[{"access":[{"action":"pull","resource":"repository"},{"action":"read","resource":"artifact"}],"kind":"project","namespace":"a"},
                {"access":[{"action":"read","resource":"repository"}],"kind":"project","namespace":"a"}]"#,
        )
        .unwrap();
        assert_eq!(one, Permissions::pull(["a"]));
        assert_eq!(one.projects().collect::<Vec<_>>(), ["a"]);
        assert!(serde_json::from_str::<Permissions>("null").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn the_wire_changes_nothing(all in permissions()) {
            let text = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(serde_json::from_str::<Permissions>(&text).unwrap(), all);
        }

        #[test]
        fn covering_is_an_order(a in permissions(), b in permissions()) {
            prop_assert!(a.cover(&a));
            prop_assert!(a.cover(&Permissions::default()));
            let mut both = a.clone();
            for (scope, access) in &b.0 {
                for right in access {
                    both.add(scope.clone(), right.clone());
                }
            }
            prop_assert!(both.cover(&a) && both.cover(&b));
            prop_assert_eq!(a.cover(&b), a.cover(&both));
        }

        #[test]
        fn a_star_covers_every_project(project in "[a-z]{1,8}") {
            prop_assert!(Permissions::pull(["*"]).cover(&Permissions::pull([project.clone()])));
            prop_assert!(!Permissions::pull([project]).cover(&Permissions::pull(["*"])));
        }
    }
}
