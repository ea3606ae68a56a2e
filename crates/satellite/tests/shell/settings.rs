//! Exit codes and messages of a command line that is wrong.

use crate::harness::Site;

#[test]
fn help_and_version_are_answers() {
    let help = Site::new().run(&["--help"]);
    assert_eq!(help.code, Some(0), "{help:?}");
    assert!(help.stdout.contains("--ground-control-url") && help.stderr.is_empty());
    let version = Site::new().run(&["--version"]);
    assert_eq!(
        (version.code, version.stdout.trim()),
        (Some(0), concat!("satellite ", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn what_is_wrong_ends_the_start_with_2_and_its_name() {
    for (site, arguments, name) in [
        (Site::new(), vec!["--no-such-flag"], "--no-such-flag"),
        (Site::new(), vec!["no-such-command"], "no-such-command"),
        (Site::new().set("LOG_LEVEL", "loud"), vec![], "LOG_LEVEL"),
        (Site::new().set("USE_UNSECURE", "maybe"), vec![], "USE_UNSECURE"),
        (Site::new(), vec!["--shutdown-timeout", "soon"], "SHUTDOWN_TIMEOUT"),
        (Site::new().set("GROUND_CONTROL_URL", "http://192.0.2.1"), vec![], "GROUND_CONTROL_URL"),
        (Site::new().set("JOIN_TOKEN_FILE", "/token"), vec![], "TRUST_BUNDLE_FILE"),
        (Site::new().set("SPIFFE_ENDPOINT_SOCKET", "/run/x"), vec![], "SPIFFE_ENDPOINT_SOCKET"),
        (Site::new().set("BYO_REGISTRY", "true"), vec![], "REGISTRY_URL"),
        (Site::new().set("MIRRORS", "rkt:docker.io"), vec![], "MIRRORS"),
        (Site::new().set("FALLBACK_ONLY", "1"), vec![], "FALLBACK_ONLY"),
        (Site::new().set("TLS_CA_FILE", "/nowhere/ca.pem"), vec![], "TLS_CA_FILE"),
    ] {
        let ended = site.run(&arguments);
        assert_eq!(ended.code, Some(2), "{name}: {ended:?}");
        assert!(ended.stderr.contains(name), "{ended:?}");
        assert!(!site.config_dir().try_exists().unwrap(), "{name}: nothing was made");
    }
}

#[test]
fn what_is_not_built_yet_ends_the_start_with_2() {
    let ended = Site::new().set("PARSEC_ENABLED", "true").run(&[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(
        ended.stderr.contains("PARSEC_ENABLED") && ended.stderr.contains("not supported yet"),
        "{ended:?}"
    );
}

#[test]
fn dot_env_in_the_working_directory_is_read() {
    let site = Site::new();
    let dot_env = site.folder().join(".env");
    blob_store::durable::write_file(&dot_env, b"LOG_LEVEL=loud\n", 0o600).unwrap();
    let ended = site.run(&[]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("LOG_LEVEL in .env"), "{ended:?}");
    let site = site.set("LOG_LEVEL", "warn").set("BYO_REGISTRY", "true");
    assert!(site.run(&[]).stderr.contains("REGISTRY_URL"), "the variable outranks the file");
}

#[test]
fn a_secret_as_a_flag_is_taken_with_a_warning_and_never_printed() {
    let ended =
        Site::new().set("BYO_REGISTRY", "true").run(&["--token", "hunter2", "--registry-password=hunter2"]);
    assert_eq!(ended.code, Some(2));
    assert!(!format!("{ended:?}").contains("hunter2"));
}
