//! Settings from maps: precedence, types, contradictions, and what ends the start.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use ground_control::config::{
    Command, Config, ConfigError, IdentitySource, RegistryConfig, SpireAdmin, SyslogNetwork, SyslogTarget,
};
use ground_control::domain::identity::AutoRegister;
use ground_control::store::Location;
use secrecy::ExposeSecret as _;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn parse(
    arguments: &[&str],
    variables: &[(&str, &str)],
    dotenv: &[(&str, &str)],
) -> Result<Config, ConfigError> {
    Config::parse(arguments.iter().map(OsString::from), &map(variables), &map(dotenv))
}

fn environment(variables: &[(&str, &str)]) -> Result<Config, String> {
    parse(&[], variables, &[]).map_err(|error| {
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    })
}

#[test]
fn defaults() {
    let config = parse(&[], &[], &[]).unwrap();
    assert_eq!(config.command, Command::Serve);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.public_url(config.listen), "http://127.0.0.1:8080");
    assert_eq!(config.session_duration, Duration::from_secs(24 * 3600));
    assert_eq!(config.lockout_duration, Duration::from_secs(300));
    assert_eq!((config.passwords.min_length, config.passwords.max_length), (8, 128));
    assert!(config.passwords.uppercase && !config.passwords.special);
    assert!(config.warnings.is_empty() && config.trusted_proxies.is_empty());
    assert_eq!(config.api_rate_limit, 500);
    let Location::Sqlite { file } = config.database else { panic!("not SQLite") };
    assert_eq!(file.to_str(), Some("./ground-control-data/ground-control.db"));
}

#[test]
fn flag_beats_environment_beats_dotenv_beats_default() {
    let listen = |flags: &[&str], environment: &[(&str, &str)], dotenv: &[(&str, &str)]| {
        parse(flags, environment, dotenv).unwrap().listen.port()
    };
    let (flag, variable, file) =
        (["--listen", "127.0.0.1:1"], [("LISTEN", "127.0.0.1:2")], [("LISTEN", "127.0.0.1:3")]);
    assert_eq!(listen(&flag, &variable, &file), 1);
    assert_eq!(listen(&[], &variable, &file), 2);
    assert_eq!(listen(&[], &[], &file), 3);
    assert_eq!(listen(&[], &[("LISTEN", "")], &file), 3, "an empty variable is an unset one");
    assert_eq!(listen(&[], &[("LISTEN", "")], &[]), 8080);
    // A bad variable that a flag replaces is not looked at.
    assert_eq!(listen(&flag, &[("LISTEN", "nonsense")], &[]), 1);
}

#[test]
fn the_command_stands_anywhere_among_the_flags() {
    for arguments in [&["republish", "--data-dir", "/x"][..], &["--data-dir", "/x", "republish"]] {
        let config = parse(arguments, &[], &[]).unwrap();
        assert_eq!(config.command, Command::Republish);
        assert_eq!(config.data_dir.to_str(), Some("/x"));
    }
}

#[test]
fn what_does_not_parse_ends_the_start_and_is_named() {
    for (variable, value) in [
        ("LISTEN", "localhost"),
        ("LISTEN", "127.0.0.1:99999"),
        ("PORT", "http"),
        ("PUBLIC_REGISTRY_URL", "gc.example.com"),
        ("PUBLIC_REGISTRY_URL", "https://gc.example.com/path"),
        ("PUBLIC_REGISTRY_URL", "https://user:secret@gc.example.com"),
        ("PUBLIC_REGISTRY_URL", "ftp://gc.example.com"),
        ("PUBLIC_REGISTRY_URL", "http://gc.example.com"),
        ("USE_UNSECURE", "perhaps"),
        ("SESSION_DURATION", "1 day"),
        ("SESSION_DURATION", "0s"),
        ("LOCKOUT_DURATION", "-5m"),
        ("PASSWORD_MIN_LENGTH", "many"),
        ("PASSWORD_MIN_LENGTH", "200"),
        ("PASSWORD_MAX_LENGTH", "0"),
        ("PASSWORD_REQUIRE_NUMBER", "yes please"),
        ("ADMIN_PASSWORD", "short"),
        ("DATABASE_URL", "mysql://root:hunter2@db/x"),
        ("DB_PORT", "x"),
        ("JSON_LOGGING", "maybe"),
        ("LOG_LEVEL", "loud"),
        ("REGISTRY_BACKEND", "ecr"),
        ("SHUTDOWN_TIMEOUT", "soon"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,proxy.example.com"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("API_RATE_LIMIT", "0"),
    ] {
        let message = environment(&[(variable, value)]).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: ")), "{variable}={value}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
        if variable == "ADMIN_PASSWORD" {
            assert!(!message.contains(value), "{message}");
        }
        // The flag of the same name says the same.
        let flag = format!("--{}={value}", variable.to_lowercase().replace('_', "-"));
        let message = parse(&[&flag], &[], &[]).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{variable}: ")), "{flag}: {message}");
    }
}

#[test]
fn settings_that_contradict_each_other_end_the_start() {
    for (variables, named) in [
        (&[("TLS_CERT_FILE", "c")][..], "TLS_KEY_FILE"),
        (&[("TLS_KEY_FILE", "k")], "TLS_CERT_FILE"),
        (&[("TLS_CA_FILE", "a")], "TLS_CA_FILE"),
        (&[("PORT", "8080")], "PUBLIC_REGISTRY_URL"),
        (&[("LISTEN", "0.0.0.0:8080")], "PUBLIC_REGISTRY_URL"),
        (&[("LISTEN", "[::]:8080"), ("USE_UNSECURE", "true")], "PUBLIC_REGISTRY_URL"),
        (&[("LISTEN", "192.0.2.1:8080")], "USE_UNSECURE"),
        (&[("DB_HOST", "db")], "DB_DATABASE"),
        (&[("DB_PORT", "5432")], "DB_HOST"),
        (&[("DATABASE_URL", "postgres://u:p@h/d")], "SECRET_KEY_FILE"),
        (&[("REGISTRY_BACKEND", "harbor")], "HARBOR_URL"),
        (&[("HARBOR_URL", "https://harbor.example.com")], "HARBOR_USERNAME"),
        (&[("HARBOR_URL", "https://harbor.example.com"), ("HARBOR_USERNAME", "admin")], "HARBOR_PASSWORD"),
    ] {
        let message = environment(variables).unwrap_err();
        assert!(message.starts_with(named), "{variables:?}: {message}");
    }
    for good in [
        &[("LISTEN", "192.0.2.1:8080"), ("USE_UNSECURE", "true")][..],
        &[("LISTEN", "192.0.2.1:8080"), ("PUBLIC_REGISTRY_URL", "https://gc.example.com")],
        &[("LISTEN", "192.0.2.1:8443"), ("TLS_CERT_FILE", "c"), ("TLS_KEY_FILE", "k")],
        &[("PORT", "8080"), ("PUBLIC_REGISTRY_URL", "http://127.0.0.1:8080/")],
    ] {
        environment(good).unwrap();
    }
}

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

/// Another registry, with all that it needs.
const OCI: [(&str, &str); 7] = [
    ("SPIFFE_SERVER_ENABLED", "true"),
    ("REGISTRY_BACKEND", "oci"),
    ("OCI_REGISTRY_URL", "https://registry.example.com/"),
    ("OCI_PUSH_USERNAME", "push"),
    ("OCI_PUSH_PASSWORD_FILE", "/run/push"),
    ("OCI_PULL_USERNAME", "pull"),
    ("OCI_PULL_PASSWORD_FILE", "/run/pull"),
];

#[test]
fn another_registry_needs_two_accounts_and_identities() {
    let config = environment(&OCI).unwrap();
    let RegistryConfig::Oci(oci) = &config.registry else { panic!("the built-in one") };
    assert_eq!(oci.endpoint.to_string(), "https://registry.example.com");
    assert_eq!((oci.push_username.as_str(), oci.pull_username.as_str()), ("push", "pull"));
    assert!(oci.ca_file.is_none() && !oci.allow_plain_http);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    for (variable, _) in OCI.iter().filter(|(variable, _)| *variable != "REGISTRY_BACKEND") {
        let without: Vec<_> = OCI.into_iter().filter(|(name, _)| name != variable).collect();
        let message = environment(&without).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: ")), "{message}");
    }
    for (variable, value) in [
        ("OCI_PULL_USERNAME", "push"),
        ("OCI_PULL_USERNAME", "pu:ll"),
        ("OCI_PUSH_USERNAME", "pu\nsh"),
        ("OCI_REGISTRY_URL", "registry.example.com"),
        ("OCI_REGISTRY_URL", "http://registry.example.com"),
        ("OCI_REGISTRY_URL", "https://u:hunter2@registry.example.com"),
        ("OCI_REGISTRY_URL", "https://registry.example.com/path"),
        ("SPIFFE_SERVER_ENABLED", "false"),
        ("REGISTRY_BACKEND", "ecr"),
    ] {
        let message = environment(&[&OCI[..], &[(variable, value)]].concat()).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: ")), "{variable}={value}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let plain = [("OCI_REGISTRY_URL", "http://registry.example.com"), ("USE_UNSECURE", "true")];
    environment(&[&OCI[..], &plain].concat()).unwrap();
    environment(&[&OCI[..], &[("OCI_REGISTRY_URL", "http://127.0.0.1:5000")]].concat()).unwrap();
    // Documents hold the registry's URL, so that nobody asks for ours.
    environment(&[&OCI[..], &[("LISTEN", "0.0.0.0:8080")]].concat()).unwrap();
    let unused =
        environment(&[&OCI[..], &[("PUBLIC_REGISTRY_URL", "https://gc.example.com")]].concat()).unwrap();
    assert!(unused.warnings[0].starts_with("PUBLIC_REGISTRY_URL has no effect"), "{:?}", unused.warnings);
    let unused = environment(&[("OCI_CA_FILE", "/ca.pem")]).unwrap();
    assert!(unused.warnings[0].starts_with("OCI_CA_FILE has no effect"), "{:?}", unused.warnings);
}

/// Harbor, with all that it needs.
const HARBOR: [(&str, &str); 3] = [
    ("HARBOR_URL", "https://harbor.example.com/"),
    ("HARBOR_USERNAME", "admin"),
    ("HARBOR_PASSWORD", "hunter2"),
];

#[test]
fn harbor_is_the_registry_where_its_url_is_set() {
    let config = environment(&HARBOR).unwrap();
    let RegistryConfig::Harbor(harbor) = &config.registry else { panic!("{:?}", config.registry) };
    assert_eq!(harbor.endpoint.to_string(), "https://harbor.example.com");
    assert!(!harbor.skip_health_check && harbor.webhook_url.is_none() && config.warnings.is_empty());
    assert!(!format!("{config:?}").contains("hunter2"));
    let more = [("HARBOR_WEBHOOK_URL", "https://gc.example.com/"), ("SKIP_HARBOR_HEALTH_CHECK", "true")];
    let config = environment(&[&HARBOR[..], &more].concat()).unwrap();
    let RegistryConfig::Harbor(harbor) = &config.registry else { panic!("{:?}", config.registry) };
    assert_eq!(harbor.webhook_url.as_deref(), Some("https://gc.example.com"));
    assert!(harbor.skip_health_check);
    for (variable, value) in [
        ("HARBOR_URL", "harbor.example.com"),
        ("HARBOR_URL", "http://harbor.example.com"),
        ("HARBOR_URL", "https://u:hunter2@harbor.example.com"),
        ("HARBOR_USERNAME", "ad:min"),
        ("HARBOR_WEBHOOK_URL", "gc.example.com"),
        ("HARBOR_WEBHOOK_URL", "https://u:hunter2@gc.example.com"),
        ("HARBOR_WEBHOOK_URL", "https://gc.example.com?x=1"),
        ("SKIP_HARBOR_HEALTH_CHECK", "maybe"),
    ] {
        let message = environment(&[&HARBOR[..], &[(variable, value)]].concat()).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: ")), "{variable}={value}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let both = environment(&[&HARBOR[..], &[("HARBOR_PASSWORD_FILE", "/run/harbor")]].concat()).unwrap_err();
    assert!(both.starts_with("HARBOR_PASSWORD: "), "{both}");
    // Another one by name, and then Harbor's settings have no effect.
    let config = environment(&[&HARBOR[..], &[("REGISTRY_BACKEND", "builtin")]].concat()).unwrap();
    assert!(matches!(config.registry, RegistryConfig::Builtin));
    assert!(
        config.warnings.iter().any(|w| w.starts_with("HARBOR_URL has no effect")),
        "{:?}",
        config.warnings
    );
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

#[test]
fn unknown_flags_and_commands_end_the_start() {
    for arguments in [&["--listne", "127.0.0.1:1"][..], &["surf"], &["--tls-cert-file"]] {
        let error = parse(arguments, &[], &[]).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
    assert_eq!(parse(&["--help"], &[], &[]).unwrap_err().exit_code(), 0);
    assert_eq!(parse(&["--version"], &[], &[]).unwrap_err().exit_code(), 0);
}

#[test]
fn the_help_names_every_variable() {
    let help = parse(&["--help"], &[], &[]).unwrap_err().to_string();
    for variable in [
        "LISTEN",
        "PORT",
        "PUBLIC_REGISTRY_URL",
        "USE_UNSECURE",
        "TLS_CERT_FILE",
        "TLS_KEY_FILE",
        "TLS_CA_FILE",
        "DATA_DIR",
        "DATABASE_URL",
        "DB_HOST",
        "DB_PORT",
        "DB_DATABASE",
        "DB_USERNAME",
        "DB_PASSWORD",
        "SECRET_KEY_FILE",
        "ADMIN_PASSWORD",
        "SESSION_DURATION",
        "LOCKOUT_DURATION",
        "API_RATE_LIMIT",
        "TRUSTED_PROXIES",
        "PASSWORD_MIN_LENGTH",
        "PASSWORD_MAX_LENGTH",
        "PASSWORD_REQUIRE_UPPERCASE",
        "PASSWORD_REQUIRE_LOWERCASE",
        "PASSWORD_REQUIRE_NUMBER",
        "PASSWORD_REQUIRE_SPECIAL",
        "WEB_LISTEN",
        "WEB_PUBLIC_URL",
        "STALE_THRESHOLD",
        "ROBOT_DURATION_DAYS",
        "SPIFFE_SERVER_ENABLED",
        "SPIFFE_TRUST_DOMAIN",
        "SPIFFE_PROVIDER",
        "SPIFFE_ENDPOINT_SOCKET",
        "SPIFFE_CERT_FILE",
        "SPIFFE_KEY_FILE",
        "SPIFFE_BUNDLE_FILE",
        "AUTO_REGISTER",
        "SVID_RENEWAL_GRACE",
        "SPIRE_SERVER_SOCKET",
        "SPIRE_SERVER_ADDRESS",
        "SPIRE_SERVER_PORT",
        "SPIRE_BIND_ADDRESS",
        "SPIRE_TRUST_DOMAIN",
        "JSON_LOGGING",
        "LOG_LEVEL",
        "SHUTDOWN_TIMEOUT",
    ] {
        assert!(help.contains(&format!("<{variable}>")), "{variable} in\n{help}");
    }
}

#[test]
fn secrets_in_flags_are_taken_with_a_warning() {
    let config = parse(&["--admin-password", "Harbor12345"], &[], &[]).unwrap();
    assert_eq!(config.admin_password.as_ref().unwrap().expose_secret(), "Harbor12345");
    assert!(config.warnings[0].contains("ADMIN_PASSWORD"), "{:?}", config.warnings);
    assert!(!config.warnings[0].contains("Harbor12345"));
    assert!(!format!("{config:?}").contains("Harbor12345"));
    assert!(parse(&[], &[("ADMIN_PASSWORD", "Harbor12345")], &[]).unwrap().warnings.is_empty());
}

#[test]
fn a_database_password_may_hold_any_character() {
    let variables = [
        ("DB_HOST", "db.example.com"),
        ("DB_DATABASE", "ground control"),
        ("DB_USERNAME", "gc"),
        ("DB_PASSWORD", "p@ss:/?#%25 ü&="),
        ("SECRET_KEY_FILE", "/keys/gc"),
    ];
    let Location::Postgres { url } = environment(&variables).unwrap().database else {
        panic!("not PostgreSQL")
    };
    let url = url::Url::parse(url.expose_secret()).unwrap();
    assert_eq!(url.host_str(), Some("db.example.com"));
    assert_eq!(url.port(), Some(5432));
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
    assert_eq!(decode(url.password().unwrap()), "p@ss:/?#%25 ü&=");
    assert_eq!(decode(url.path()), "/ground control");
}

#[test]
fn public_urls_are_kept_bare() {
    let url =
        |text: &str| environment(&[("PUBLIC_REGISTRY_URL", text)]).unwrap().public_registry_url.unwrap();
    assert_eq!(url("https://gc.example.com/"), "https://gc.example.com");
    assert_eq!(url("https://gc.example.com:8443"), "https://gc.example.com:8443");
    assert_eq!(url("http://[::1]:8080"), "http://[::1]:8080");
    assert_eq!(url("http://localhost:8080"), "http://localhost:8080");
}

#[test]
fn the_operators_listener_is_on_loopback_unless_somebody_names_another() {
    let admin = |variables: &[(&str, &str)]| {
        let config = environment(variables).unwrap();
        (config.admin.map(|admin| (admin.listen.to_string(), admin.asked_for)), config.warnings)
    };
    assert_eq!(admin(&[]), (Some(("127.0.0.1:9090".to_owned(), false)), vec![]));
    assert_eq!(admin(&[("ADMIN_LISTEN", "off")]), (None, vec![]));
    let named = admin(&[("ADMIN_LISTEN", "[::1]:9091")]);
    assert_eq!(named, (Some(("[::1]:9091".to_owned(), true)), vec![]));
    let (open, warnings) = admin(&[("ADMIN_LISTEN", "0.0.0.0:9090")]);
    assert_eq!(open, Some(("0.0.0.0:9090".to_owned(), true)));
    assert!(warnings.iter().any(|warning| warning.starts_with("ADMIN_LISTEN: ")), "{warnings:?}");
    for bad in ["9090", "false", "localhost:9090", ":9090"] {
        let error = environment(&[("ADMIN_LISTEN", bad)]).unwrap_err();
        assert!(error.starts_with("ADMIN_LISTEN"), "{error}");
    }
}

#[test]
fn the_audit_is_sent_on_where_it_is_asked_for() {
    let config = environment(&[]).unwrap().audit;
    assert!(config.syslog.is_none() && config.collector.is_none());
    let on = ("AUDIT_LOG_ENABLED", "true");
    let syslog = environment(&[on]).unwrap().audit.syslog.unwrap();
    assert_eq!(syslog.tag, "harbor-audit");
    let SyslogTarget::File { path, max_size, max_backups, compress, .. } = syslog.target else {
        panic!("no file")
    };
    assert_eq!((path.to_str(), max_size, max_backups, compress), (Some("./audit.log"), 100_000_000, 7, true));
    let network = ("AUDIT_SYSLOG_TARGET", "network");
    let tls = [
        on,
        network,
        ("AUDIT_SYSLOG_NETWORK", "tls"),
        ("AUDIT_SYSLOG_ADDRESS", "logs.example.com"),
        ("AUDIT_SYSLOG_TLS_CERT_FILE", "/c"),
        ("AUDIT_SYSLOG_TLS_KEY_FILE", "/k"),
    ];
    let target = environment(&tls).unwrap().audit.syslog.unwrap().target;
    let client = Some(("/c".into(), "/k".into()));
    let expected = SyslogNetwork::Tls { authorities: None, client };
    assert_eq!(
        target,
        SyslogTarget::Network { network: expected, host: "logs.example.com".to_owned(), port: 6514 }
    );
    let off = environment(&tls[1..]).unwrap();
    assert!(off.audit.syslog.is_none());
    assert!(off.warnings.iter().any(|warning| warning.contains("AUDIT_LOG_ENABLED")), "{:?}", off.warnings);
    for (more, named) in [
        (&[network][..], "AUDIT_SYSLOG_ADDRESS"),
        (&[network, ("AUDIT_SYSLOG_ADDRESS", "host:x")], "AUDIT_SYSLOG_ADDRESS"),
        (&[("AUDIT_SYSLOG_TARGET", "printer")], "AUDIT_SYSLOG_TARGET"),
        (&[("AUDIT_SYSLOG_NETWORK", "sctp")], "AUDIT_SYSLOG_NETWORK"),
        (&[("AUDIT_SYSLOG_TAG", "a b")], "AUDIT_SYSLOG_TAG"),
        (&[("AUDIT_SYSLOG_TLS_CA_FILE", "/c")], "AUDIT_SYSLOG_TLS_CA_FILE"),
        (&tls[1..5], "AUDIT_SYSLOG_TLS_KEY_FILE"),
        (&[("AUDIT_SYSLOG_FILE_MAX_SIZE_MB", "0")], "AUDIT_SYSLOG_FILE_MAX_SIZE_MB"),
        (&[("AUDIT_SYSLOG_FILE_MAX_BACKUPS", "-1")], "AUDIT_SYSLOG_FILE_MAX_BACKUPS"),
        (&[("AUDIT_SYSLOG_FILE_COMPRESS", "perhaps")], "AUDIT_SYSLOG_FILE_COMPRESS"),
        (&[("AUDIT_OTEL_ENDPOINT", "collector:4318")], "AUDIT_OTEL_ENDPOINT"),
        (&[("AUDIT_OTEL_ENDPOINT", "http://otel.example.com:4318")], "AUDIT_OTEL_ENDPOINT"),
        (&[("AUDIT_RETENTION_DAYS", "0")], "AUDIT_RETENTION_DAYS"),
        (&[("AUDIT_SINK_BACKLOG", "many")], "AUDIT_SINK_BACKLOG"),
        (&[("AUDIT_LOG_ENABLED", "yes")], "AUDIT_LOG_ENABLED"),
        (&[("AUDIT_TRUST_FORWARDED_HEADERS", "true")], "AUDIT_TRUST_FORWARDED_HEADERS"),
    ] {
        let message = environment(more).unwrap_err();
        assert!(message.contains(named), "{more:?}: {message}");
    }
}
