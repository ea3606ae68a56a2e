//! Scopes of the token protocol: `repository:library/nginx:pull,push`, `registry:catalog:*`.

use oci::RepositoryName;

use crate::auth::Grant;

/// Most scopes of one token: a token travels in a header, and no client asks for more than a mount's two.
pub(crate) const MOST: usize = 32;

/// Reads the scopes of a request, several to a text or several texts; what is not understood is passed over,
/// since a token without it only opens less.
pub(crate) fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for scope in texts.into_iter().flat_map(str::split_ascii_whitespace) {
        let Some(grant) = one(scope) else { continue };
        // The same repository twice is one grant of both.
        if let Some(same) = grants.iter_mut().find(|known| known.repository == grant.repository) {
            same.pull |= grant.pull;
            same.push |= grant.push;
            same.delete |= grant.delete;
        } else if grants.len() < MOST {
            grants.push(grant);
        }
    }
    grants
}

fn one(scope: &str) -> Option<Grant> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let asks = |action: &str| actions.split(',').any(|a| a == action || a == "*");
    // A class such as `repository(plugin)` says what kind of image it is, which changes nothing here.
    match kind.split('(').next()? {
        "repository" => Some(Grant {
            repository: Some(name.parse::<RepositoryName>().ok()?),
            pull: asks("pull"),
            push: asks("push"),
            delete: asks("delete"),
        }),
        "registry" if name == "catalog" => {
            Some(Grant { repository: None, pull: asks("*"), push: false, delete: false })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(repository: &str, actions: &str) -> Grant {
        Grant {
            repository: Some(repository.parse().unwrap()),
            pull: actions.contains("pull"),
            push: actions.contains("push"),
            delete: actions.contains("delete"),
        }
    }

    #[test]
    fn scopes_are_read_in_every_form() {
        assert_eq!(parse(["repository:a/b/c:pull"]), [grant("a/b/c", "pull")]);
        assert_eq!(
            parse(["repository:a:pull,push repository:b:pull", "repository:c:*"]),
            [grant("a", "pull,push"), grant("b", "pull"), grant("c", "pull,push,delete")]
        );
        assert_eq!(parse(["repository(plugin):a:pull"]), [grant("a", "pull")]);
        assert_eq!(parse(["repository:a:pull", "repository:a:push"]), [grant("a", "pull,push")]);
        assert_eq!(
            parse(["registry:catalog:*"]),
            [Grant { repository: None, pull: true, push: false, delete: false }]
        );
    }

    #[test]
    fn nonsense_opens_nothing() {
        assert_eq!(
            parse(["", "x", "repository:", "repository:A:pull", "repository:../x:pull", "host:a:pull"]),
            []
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_within_bounds(text in "[a-z:/ ,*()A-Z.]{0,200}") {
            let grants = parse([text.as_str(), text.as_str()]);
            proptest::prop_assert!(grants.len() <= MOST);
            for grant in &grants {
                let same = grants.iter().filter(|other| other.repository == grant.repository).count();
                proptest::prop_assert_eq!(same, 1);
            }
        }
    }

    #[test]
    fn scopes_are_bounded() {
        let many: Vec<String> = (0..1000).map(|n| format!("repository:r{n}:pull")).collect();
        assert_eq!(parse(many.iter().map(String::as_str)).len(), MOST);
    }
}
