//! Settings from maps: precedence, types, contradictions, and what ends the start.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

#[path = "config/identities.rs"]
mod identities;
#[path = "config/registries.rs"]
mod registries;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use ground_control::config::{Command, Config, ConfigError, SyslogNetwork, SyslogTarget};
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
        (&[("ADMIN_PASSWORD", "Harbor12345"), ("ADMIN_PASSWORD_FILE", "/p")], "ADMIN_PASSWORD"),
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
        "ADMIN_PASSWORD_FILE",
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
