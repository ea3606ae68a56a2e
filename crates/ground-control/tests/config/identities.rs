//! Identities by SPIFFE, and people of an identity provider.

use std::time::Duration;

use ground_control::config::{Config, IdentitySource, SpireAdmin};
use ground_control::domain::identity::AutoRegister;

use super::environment;

/// Logins by OpenID Connect, with all that they need.
const OIDC: [(&str, &str); 5] = [
    ("OIDC_ISSUER", "https://id.example.com/realms/ops"),
    ("OIDC_CLIENT_ID", "gc"),
    ("OIDC_CLIENT_SECRET_FILE", "/run/secret"),
    ("OIDC_ROLE_MAP", "ops=admin,everyone=viewer"),
    ("PUBLIC_URL", "https://gc.example.com/"),
];

#[test]
fn an_identity_provider_needs_a_client_roles_and_our_own_name() {
    let oidc = environment(&OIDC).unwrap().oidc.unwrap();
    assert_eq!((oidc.public_url.as_str(), oidc.role_claim.as_str()), ("https://gc.example.com", "groups"));
    assert_eq!(oidc.scopes, "openid profile email");
    for (variable, _) in OIDC.iter().filter(|(variable, _)| *variable != "OIDC_ISSUER") {
        let without: Vec<_> = OIDC.into_iter().filter(|(name, _)| name != variable).collect();
        let message = environment(&without).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: ")), "{message}");
    }
    for (variable, value) in [
        ("OIDC_ISSUER", "id.example.com"),
        ("OIDC_ISSUER", "http://id.example.com"),
        ("OIDC_ISSUER", "https://id.example.com?x=1"),
        ("OIDC_ISSUER", "https://u:hunter2@id.example.com"),
        ("OIDC_ROLE_MAP", "ops=root"),
        ("OIDC_ROLE_MAP", ","),
        ("PUBLIC_URL", "http://gc.example.com"),
        ("PUBLIC_URL", "https://gc.example.com/path"),
        ("PUBLIC_URL", "ftp://gc.example.com"),
        ("PUBLIC_URL", "gc.example.com"),
    ] {
        let message = environment(&[&OIDC[..], &[(variable, value)]].concat()).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: ")), "{variable}={value}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let loopback = [("OIDC_ISSUER", "http://localhost:9"), ("PUBLIC_URL", "http://127.0.0.1:8080")];
    let oidc = environment(&[&OIDC[..], &loopback].concat()).unwrap().oidc.unwrap();
    assert_eq!(oidc.public_url, "http://127.0.0.1:8080");
    let scopes =
        environment(&[&OIDC[..], &[("OIDC_SCOPES", "groups profile")]].concat()).unwrap().oidc.unwrap();
    assert_eq!(scopes.scopes, "openid groups profile");
    let without = environment(&OIDC[1..]).unwrap();
    assert!(without.oidc.is_none() && without.warnings.len() == 3, "{:?}", without.warnings);
}

/// With SPIFFE on.
fn spiffe(variables: &[(&str, &str)]) -> Result<Config, String> {
    environment(&[&[("SPIFFE_SERVER_ENABLED", "true")], variables].concat())
}

#[test]
fn the_provider_is_the_one_that_the_settings_ask_for() {
    let files = [("SPIFFE_CERT_FILE", "c"), ("SPIFFE_KEY_FILE", "k"), ("SPIFFE_BUNDLE_FILE", "b")];
    let socket = ("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock");
    let server = ("SPIRE_SERVER_ADDRESS", "spire.example.com");
    for (variables, provider) in [
        (&[][..], "builtin"),
        (&[socket], "sidecar"),
        (&[("SPIRE_SERVER_SOCKET", "unix:///run/spire.sock")], "sidecar"),
        (&[server], "sidecar"),
        (&files, "static"),
        (&[("SPIFFE_PROVIDER", "sidecar")], "sidecar"),
        (&[("SPIFFE_PROVIDER", "builtin"), server], "builtin"),
        (&[("SPIFFE_PROVIDER", "sidecar"), socket, files[0], files[1], files[2]], "sidecar"),
    ] {
        let config = spiffe(variables).unwrap().spiffe.unwrap();
        assert_eq!(config.provider().as_str(), provider, "{variables:?}");
        assert_eq!(config.trust_domain.as_str(), "harbor-satellite.local");
        assert_eq!(config.auto_register, AutoRegister::Allow);
    }
    assert!(environment(&[]).unwrap().spiffe.is_none());
    // What is set and does nothing is said.
    for variables in [&[("SPIFFE_TRUST_DOMAIN", "td")][..], &[("AUTO_REGISTER", "deny"), server]] {
        let warnings = environment(variables).unwrap().warnings;
        assert_eq!(warnings.len(), variables.len(), "{warnings:?}");
    }
    assert_eq!(spiffe(&[socket, ("SPIRE_BIND_ADDRESS", "127.0.0.1")]).unwrap().warnings.len(), 1);
}

#[test]
fn what_belongs_to_a_provider_is_read_whole() {
    let source = |variables: &[(&str, &str)]| spiffe(variables).unwrap().spiffe.unwrap().source;
    let IdentitySource::Builtin { renewal_grace, agents, agents_asked_for, agents_host } = source(&[]) else {
        panic!("not built in")
    };
    assert_eq!(renewal_grace, Duration::from_secs(30 * 86_400));
    assert_eq!((agents.to_string().as_str(), agents_asked_for, agents_host), ("127.0.0.1:8081", false, None));
    let IdentitySource::Builtin { renewal_grace, agents, agents_asked_for, agents_host } = source(&[
        ("SPIFFE_PROVIDER", "builtin"),
        ("SPIRE_BIND_ADDRESS", "0.0.0.0"),
        ("SPIRE_SERVER_ADDRESS", "gc.example.com"),
        ("SPIRE_SERVER_PORT", "9081"),
        ("SVID_RENEWAL_GRACE", "72h"),
    ]) else {
        panic!("not built in")
    };
    assert_eq!(renewal_grace, Duration::from_secs(3 * 86_400));
    assert_eq!(agents.to_string(), "0.0.0.0:9081");
    assert!(agents_asked_for && agents_host.as_deref() == Some("gc.example.com"));

    let spire = |variables: &[(&str, &str)]| match source(variables) {
        IdentitySource::Sidecar { spire, .. } | IdentitySource::Static { spire, .. } => spire,
        IdentitySource::Builtin { .. } => panic!("built in"),
    };
    let (socket, address, port) = (
        ("SPIRE_SERVER_SOCKET", "unix:///run/spire.sock"),
        ("SPIRE_SERVER_ADDRESS", "spire.example.com"),
        ("SPIRE_SERVER_PORT", "9081"),
    );
    assert_eq!(spire(&[("SPIFFE_PROVIDER", "sidecar")]).admin, None);
    assert_eq!(spire(&[socket]).admin, Some(SpireAdmin::Socket("/run/spire.sock".into())));
    assert_eq!(spire(&[address]).admin, Some(SpireAdmin::Tcp("spire.example.com".into(), 8081)));
    let both = spire(&[socket, address, port]);
    assert_eq!(both.admin, Some(SpireAdmin::Socket("/run/spire.sock".into())));
    assert_eq!(both.public, Some(("spire.example.com".into(), 9081)));
}

#[test]
fn settings_of_identities_that_are_wrong_name_themselves() {
    let (socket, file) = (("SPIFFE_ENDPOINT_SOCKET", "unix:///run/agent.sock"), ("SPIFFE_CERT_FILE", "c"));
    for (variables, named) in [
        (&[("SPIFFE_TRUST_DOMAIN", "TD")][..], "SPIFFE_TRUST_DOMAIN"),
        (&[("SPIFFE_TRUST_DOMAIN", "a"), ("SPIRE_TRUST_DOMAIN", "b")], "SPIRE_TRUST_DOMAIN"),
        (&[("SPIFFE_PROVIDER", "spire")], "SPIFFE_PROVIDER"),
        (&[("SPIFFE_ENDPOINT_SOCKET", "/run/agent.sock")], "SPIFFE_ENDPOINT_SOCKET"),
        (&[socket, file], "SPIFFE_PROVIDER"),
        (&[file], "SPIFFE_KEY_FILE"),
        (&[file, ("SPIFFE_KEY_FILE", "k")], "SPIFFE_BUNDLE_FILE"),
        (&[("AUTO_REGISTER", "yes")], "AUTO_REGISTER"),
        (&[("SVID_RENEWAL_GRACE", "long")], "SVID_RENEWAL_GRACE"),
        (&[("SVID_RENEWAL_GRACE", "400d")], "SVID_RENEWAL_GRACE"),
        (&[("STALE_THRESHOLD", "0s")], "STALE_THRESHOLD"),
        (&[("ROBOT_DURATION_DAYS", "0")], "ROBOT_DURATION_DAYS"),
        (&[("SPIFFE_PROVIDER", "builtin"), ("SPIRE_SERVER_SOCKET", "/s")], "SPIRE_SERVER_SOCKET"),
        (&[("SPIRE_BIND_ADDRESS", "0.0.0.0")], "SPIRE_SERVER_ADDRESS"),
        (&[("SPIFFE_PROVIDER", "builtin"), ("SPIRE_SERVER_ADDRESS", "https://x")], "SPIRE_SERVER_ADDRESS"),
        (&[("TLS_CERT_FILE", "c"), ("TLS_KEY_FILE", "k")], "TLS_CERT_FILE"),
        (&[("WEB_LISTEN", "192.0.2.1:80")], "WEB_LISTEN"),
        (&[("WEB_LISTEN", "0.0.0.0:443"), ("TLS_CERT_FILE", "c"), ("TLS_KEY_FILE", "k")], "WEB_PUBLIC_URL"),
        (&[("WEB_PUBLIC_URL", "https://gc.example.com")], "WEB_LISTEN"),
        (&[("WEB_LISTEN", "127.0.0.1:80"), ("WEB_PUBLIC_URL", "http://gc.example.com")], "WEB_PUBLIC_URL"),
    ] {
        let message = spiffe(variables).unwrap_err();
        assert!(message.starts_with(&format!("{named}:")), "{variables:?}: {message}");
    }
    let message = environment(&[("WEB_LISTEN", "127.0.0.1:80")]).unwrap_err();
    assert!(message.starts_with("WEB_LISTEN:"), "{message}");
}

#[test]
fn with_an_svid_the_listener_is_secure_and_the_second_one_has_the_certificate() {
    let config = spiffe(&[
        ("LISTEN", "192.0.2.1:8443"),
        ("WEB_LISTEN", "0.0.0.0:443"),
        ("WEB_PUBLIC_URL", "https://gc.example.com/"),
        ("TLS_CERT_FILE", "c"),
        ("TLS_KEY_FILE", "k"),
        ("SPIRE_TRUST_DOMAIN", "td"),
        ("SPIFFE_TRUST_DOMAIN", "td"),
        ("STALE_THRESHOLD", "1h"),
        ("ROBOT_DURATION_DAYS", "7"),
    ])
    .unwrap();
    assert_eq!(config.public_url(config.listen), "https://192.0.2.1:8443");
    assert_eq!(config.web_url(config.listen), "https://gc.example.com");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.stale_threshold, Some(Duration::from_secs(3600)));
    assert_eq!(config.robot_duration, Duration::from_secs(7 * 86_400));
    let plain = spiffe(&[("WEB_LISTEN", "127.0.0.1:8080")]).unwrap();
    assert_eq!(plain.web_url(plain.web.as_ref().unwrap().listen), "http://127.0.0.1:8080");
}
