//! Settings from maps: precedence, types, contradictions, and what ends the start.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use ground_control::config::{Command, Config, ConfigError};
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
    assert!(config.warnings.is_empty());
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
        ("REGISTRY_BACKEND", "harbor"),
        ("SHUTDOWN_TIMEOUT", "soon"),
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
fn parts_that_are_not_there_yet_end_the_start_unless_they_are_off() {
    for (variable, value) in [
        ("SPIFFE_SERVER_ENABLED", "true"),
        ("SPIFFE_TRUST_DOMAIN", "example.org"),
        ("SPIRE_SERVER_SOCKET", "unix:///s"),
        ("HARBOR_URL", "https://harbor.example.com"),
        ("WEB_LISTEN", "127.0.0.1:1"),
        ("AUDIT_LOG_ENABLED", "true"),
        ("OIDC_ISSUER_URL", "https://id.example.com"),
        ("AUTO_REGISTER", "allow"),
        ("STALE_THRESHOLD", "1h"),
    ] {
        let message = environment(&[(variable, value)]).unwrap_err();
        assert!(message.starts_with(&format!("{variable}: not supported yet")), "{message}");
        let flag = format!("--{}={value}", variable.to_lowercase().replace('_', "-"));
        let message = parse(&[&flag], &[], &[]).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{variable}: not supported yet")), "{message}");
    }
    environment(&[("SPIFFE_SERVER_ENABLED", "false"), ("HARBOR_URL", ""), ("AUDIT_LOG_ENABLED", "0")])
        .unwrap();
    environment(&[("REGISTRY_BACKEND", "builtin")]).unwrap();
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
        "PASSWORD_MIN_LENGTH",
        "PASSWORD_MAX_LENGTH",
        "PASSWORD_REQUIRE_UPPERCASE",
        "PASSWORD_REQUIRE_LOWERCASE",
        "PASSWORD_REQUIRE_NUMBER",
        "PASSWORD_REQUIRE_SPECIAL",
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
