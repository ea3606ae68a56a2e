use std::collections::BTreeSet;
use std::time::Duration;

use clap::CommandFactory as _;
use fleet_protocol::schedule::Schedule;
use secrecy::ExposeSecret as _;

use super::super::ImagePlatforms;
use super::*;
use crate::config::{Effective, ExpectedServer, IdentitySettings, IdentitySource, Layer, LogLevel};

mod by_hand;
mod runtimes;

struct Case {
    folder: tempfile::TempDir,
    environment: Environment,
}

impl Case {
    fn new(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut environment = Environment::default();
        environment.variables.insert("CONFIG_DIR".into(), folder.path().to_str().unwrap().into());
        for (name, value) in variables {
            environment.variables.insert((*name).into(), (*value).into());
        }
        Self { folder, environment }
    }

    fn dot_env(mut self, entries: &[(&str, &str)]) -> Self {
        for (name, value) in entries {
            self.environment.dot_env.insert((*name).into(), (*value).into());
        }
        self
    }

    fn file(self, text: &str) -> Self {
        blob_store::durable::write_file(&self.folder.path().join("config.json"), text.as_bytes(), 0o600)
            .unwrap();
        self
    }

    fn parse(&self, arguments: &[&str]) -> Result<Invocation, ConfigError> {
        let arguments = std::iter::once("satellite").chain(arguments.iter().copied()).map(OsString::from);
        parse(arguments, &self.environment)
    }

    fn site(&self, arguments: &[&str]) -> Site {
        match self.parse(arguments).unwrap() {
            Invocation::Run(site) => *site,
            other => panic!("not a run: {other:?}"),
        }
    }

    fn effective(&self, arguments: &[&str]) -> Effective {
        Effective::of(&self.site(arguments), &Layer::default())
    }

    fn usage(&self, arguments: &[&str]) -> String {
        match self.parse(arguments) {
            Err(ConfigError::Usage(text)) => text,
            other => panic!("{other:?}"),
        }
    }
}

/// Every setting with a value that parses; what is not built yet is set to what turns nothing on.
const VALID: &[(&str, &str)] = &[
    ("ground-control-url", "https://gc.example.com"),
    ("token", "0123"),
    ("harbor-registry-url", "https://harbor.example.com"),
    ("use-unsecure", "true"),
    ("tls-ca-file", "/dev/null"),
    ("tls-skip-verify", "true"),
    ("register-satellite-interval", "@every 5s"),
    ("heartbeat-interval", "*/5 * * * *"),
    ("state-replication-interval", "@every 7s"),
    ("referrers-interval", "1h30m"),
    ("platforms", "linux/amd64,linux/arm64/v8"),
    ("byo-registry", "true"),
    ("registry-url", "https://byo.example.com"),
    ("registry-username", "robot"),
    ("registry-password", "s3cret"),
    ("registry-listen", "127.0.0.1:5000"),
    ("registry-listen-unsecure", "false"),
    ("local-namespaces", "dev,team/ci"),
    ("docker-mirror-listen", "127.0.0.1:8587"),
    ("lan-listen", "0.0.0.0:8443"),
    ("lan-name", "site.example,192.0.2.7"),
    ("lan-accounts-file", "/accounts"),
    ("site-token-file", "/token"),
    ("registry-data-dir", "/data"),
    ("gc-grace", "20m"),
    ("gc-interval", "1h"),
    ("scrub-interval", "24h"),
    ("config-dir", "/config"),
    ("control-socket", "/run/satellite.sock"),
    ("log-level", "debug"),
    ("json-logging", "false"),
    ("otel-exporter-otlp-endpoint", "https://collector.example.com:4318"),
    ("shutdown-timeout", "5s"),
    ("spiffe-enabled", "true"),
    ("spiffe-endpoint-socket", "unix:///run/x"),
    ("spiffe-expected-server-id", "any"),
    ("trust-bundle-file", "/bundle.pem"),
    ("mirrors", "containerd:docker.io,quay.io;docker:true"),
    ("mirror-path", "quay.io=mirror/quay;ghcr.io=gh"),
    ("mirror-peer", "auto;http://10.0.0.7:30020"),
    ("no-registry-fallback", "false"),
    ("fallback-only", "false"),
    ("host-root", "/host"),
    ("restart-command", "sv $2 $1"),
    ("direct-delivery", "true"),
    ("image-dir", "/srv/images"),
    ("image-platforms", "own"),
    ("parsec-enabled", "false"),
    ("parsec-socket", "/run/parsec"),
];

/// A value of each kind that does not parse; what takes any text is not here.
const INVALID: &[(&str, &str)] = &[
    ("ground-control-url", "gc"),
    ("ground-control-url", "ftp://gc"),
    ("ground-control-url", "https://user:password@gc"),
    ("harbor-registry-url", "::"),
    ("use-unsecure", "maybe"),
    ("tls-ca-file", "/nowhere/ca.pem"),
    ("tls-skip-verify", "2"),
    ("register-satellite-interval", "often"),
    ("heartbeat-interval", "@every 0s"),
    ("state-replication-interval", "* * *"),
    ("referrers-interval", "10"),
    ("platforms", "linux"),
    ("byo-registry", "x"),
    ("registry-url", "http://"),
    ("registry-listen", "8585"),
    ("registry-listen", "host:1"),
    ("registry-listen", "0.0.0.0:8585"),
    ("registry-listen-unsecure", "x"),
    ("local-namespaces", "quay.io"),
    ("local-namespaces", "UP"),
    ("docker-mirror-listen", "8586"),
    ("docker-mirror-listen", "0.0.0.0:8586"),
    ("lan-listen", "8443"),
    ("lan-name", "https://site.example"),
    ("gc-grace", "-1m"),
    ("gc-interval", "0"),
    ("scrub-interval", "week"),
    ("log-level", "loud"),
    ("json-logging", "json"),
    ("otel-exporter-otlp-endpoint", "collector:4318"),
    ("otel-exporter-otlp-endpoint", "http://collector.example.com:4318"),
    ("shutdown-timeout", "30"),
    ("spiffe-enabled", "x"),
    ("spiffe-endpoint-socket", "/run/x"),
    ("spiffe-expected-server-id", "gc"),
    ("spiffe-expected-server-id", "spiffe://td"),
    ("mirrors", "docker.io"),
    ("mirrors", "docker:quay.io"),
    ("mirror-path", "quay.io"),
    ("mirror-peer", "10.0.0.7:30020"),
    ("no-registry-fallback", "x"),
    ("fallback-only", "x"),
    ("direct-delivery", "x"),
    ("image-dir", "images"),
    ("image-dir", "/srv/../etc"),
    ("image-platforms", "arm64"),
    ("parsec-enabled", "x"),
];

const LATER: &[(&str, &str)] = &[("parsec-enabled", "true")];

#[test]
fn the_command_line_is_well_formed_and_wholly_covered_here() {
    Cli::command().debug_assert();
    let defined: BTreeSet<String> = command()
        .get_arguments()
        .filter_map(|argument| argument.get_long().filter(|flag| is_setting(flag)).map(str::to_owned))
        .collect();
    let mut covered: BTreeSet<String> =
        VALID.iter().chain(LATER).map(|(flag, _)| (*flag).to_owned()).collect();
    // Needs another one beside it: `the_files_of_the_built_in_authority_belong_together`.
    covered.insert("join-token-file".to_owned());
    // Likewise: `a_certificate_needs_its_key`.
    covered.extend(["lan-tls-cert-file", "lan-tls-key-file"].map(str::to_owned));
    assert_eq!(defined, covered);
}

#[test]
fn help_documents_every_flag_with_its_variable() {
    let Err(ConfigError::Answer(help)) = Case::new(&[]).parse(&["--help"]) else { panic!("no help") };
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (flag, _) in VALID.iter().chain(LATER) {
        assert!(help.contains(&format!("--{flag}")), "{flag}");
        assert!(help.contains(&format!("[env: {}]", variable(flag))), "{flag}");
    }
    for argument in command().get_arguments() {
        assert!(argument.get_help().is_some_and(|help| help.to_string().len() > 15), "{}", argument.get_id());
    }
}

#[test]
fn every_flag_and_its_variable_say_the_same() {
    for (flag, value) in VALID {
        let by_flag = Case::new(&[("BYO_REGISTRY", "false")]).parse(&[&format!("--{flag}={value}")]);
        let name = variable(flag);
        let by_variable = Case::new(&[(&name, value)]).parse(&[]);
        // Only the registry of one's own needs a second setting beside it.
        if *flag == "byo-registry" {
            assert!(by_flag.is_err() && by_variable.is_err());
            continue;
        }
        let neutral = |invocation: Result<Invocation, ConfigError>| {
            let Invocation::Run(mut site) = invocation.unwrap_or_else(|error| panic!("{flag}: {error}"))
            else {
                panic!("not a run")
            };
            site.warnings.clear();
            site.layer.byo_registry = None;
            if *flag != "config-dir" {
                site.config_dir = PathBuf::new();
            }
            for path in [&mut site.control_socket, &mut site.registry_data_dir] {
                if path.starts_with("/tmp") || path.starts_with(std::env::temp_dir()) {
                    *path = PathBuf::new();
                }
            }
            format!("{site:?}")
        };
        assert_eq!(neutral(by_flag), neutral(by_variable), "{flag}");
    }
}

#[test]
fn a_flag_outranks_the_environment_outranks_dot_env_outranks_the_file_outranks_the_default() {
    let file = r#"{"app_config":{"log_level":"trace"}}"#;
    let level = |case: &Case, arguments: &[&str]| case.effective(arguments).log_level;
    let all = Case::new(&[("LOG_LEVEL", "warn")]).dot_env(&[("LOG_LEVEL", "debug")]).file(file);
    assert_eq!(level(&all, &["--log-level", "error"]), LogLevel::Error);
    assert_eq!(level(&all, &[]), LogLevel::Warn);
    let without_variable = Case::new(&[("LOG_LEVEL", "")]).dot_env(&[("LOG_LEVEL", "debug")]).file(file);
    assert_eq!(level(&without_variable, &[]), LogLevel::Debug);
    assert_eq!(level(&Case::new(&[]).dot_env(&[("LOG_LEVEL", " ")]).file(file), &[]), LogLevel::Trace);
    assert_eq!(level(&Case::new(&[]), &[]), LogLevel::Info);
    assert_eq!(level(&all, &["--log-level="]), LogLevel::Warn, "an empty flag is an unset one");
}

#[test]
fn false_on_the_command_line_outranks_true_in_the_environment() {
    let case = Case::new(&[("USE_UNSECURE", "true")]);
    assert!(case.effective(&[]).use_unsecure);
    assert!(!case.effective(&["--use-unsecure=false"]).use_unsecure);
    assert!(Case::new(&[]).effective(&["--use-unsecure"]).use_unsecure);
}

#[test]
fn a_wrong_value_is_named_by_its_variable() {
    for (flag, value) in INVALID {
        let name = variable(flag);
        for text in [
            Case::new(&[]).usage(&[&format!("--{flag}={value}")]),
            Case::new(&[(&name, value)]).usage(&[]),
            Case::new(&[]).dot_env(&[(&name, value)]).usage(&[]),
        ] {
            assert!(text.contains(&name), "{flag}: {text}");
        }
    }
}

#[test]
fn what_is_not_built_yet_ends_the_start() {
    for (flag, value) in LATER {
        let name = variable(flag);
        for text in [
            Case::new(&[]).usage(&[&format!("--{flag}={value}")]),
            Case::new(&[(&name, value)]).usage(&[]),
            Case::new(&[]).dot_env(&[(&name, value)]).usage(&[]),
        ] {
            assert!(text.contains(&name) && text.contains("not supported yet"), "{flag}: {text}");
        }
        Case::new(&[(&name, "")]).site(&[]);
    }
    let text = Case::new(&[]).file(r#"{"app_config":{"audit":{"enabled":true}}}"#).usage(&[]);
    assert!(text.contains("config.json") && text.contains("not supported yet"), "{text}");
}

#[test]
fn the_files_of_the_built_in_authority_belong_together() {
    let text = Case::new(&[("JOIN_TOKEN_FILE", "/token")]).usage(&[]);
    assert!(text.contains("TRUST_BUNDLE_FILE"), "{text}");
    let both =
        [("JOIN_TOKEN_FILE", "/token"), ("TRUST_BUNDLE_FILE", "/bundle.pem"), ("SPIFFE_ENABLED", "true")];
    let site = Case::new(&both).site(&["--spiffe-endpoint-socket=unix:///run/x"]);
    let builtin = IdentitySource::Builtin {
        join_token_file: Some("/token".into()),
        trust_bundle_file: Some("/bundle.pem".into()),
    };
    assert_eq!(site.identity.source, builtin);
    assert!(site.warnings.iter().any(|warning| warning.starts_with("SPIFFE_ENDPOINT_SOCKET has no effect")));
    let later = Case::new(&[("TRUST_BUNDLE_FILE", "/bundle.pem")]).site(&[]).identity;
    assert!(later.is_spiffe(), "the join token was used up long ago");
}

#[test]
fn a_certificate_needs_its_key() {
    for (one, other) in [("LAN_TLS_CERT_FILE", "LAN_TLS_KEY_FILE"), ("LAN_TLS_KEY_FILE", "LAN_TLS_CERT_FILE")]
    {
        let text = Case::new(&[("LAN_LISTEN", "0.0.0.0:8443"), (one, "/x.pem")]).usage(&[]);
        assert!(text.contains(other), "{text}");
    }
    let both =
        [("LAN_TLS_CERT_FILE", "/c.pem"), ("LAN_TLS_KEY_FILE", "/k.pem"), ("LAN_NAME", "a, 192.0.2.7")];
    let site = Case::new(&both).site(&["--lan-listen=0.0.0.0:8443", "--lan-accounts-file=/accounts"]);
    let lan = site.lan.unwrap();
    assert_eq!(
        (lan.names.as_slice(), lan.certificate.is_some()),
        (["a", "192.0.2.7"].map(str::to_owned).as_slice(), true)
    );
    assert!(site.warnings.is_empty());
    let site = Case::new(&both).site(&[]);
    assert!(site.lan.is_none() && site.warnings.iter().any(|warning| warning.contains("without LAN_LISTEN")));
}

#[test]
fn the_open_registry_stays_on_loopback_unless_the_site_says_so() {
    let text = Case::new(&[("REGISTRY_LISTEN", "[::]:8585")]).usage(&[]);
    assert!(["LAN_LISTEN", "REGISTRY_LISTEN_UNSECURE"].iter().all(|name| text.contains(name)), "{text}");
    let said = Case::new(&[("REGISTRY_LISTEN", "[::]:8585"), ("REGISTRY_LISTEN_UNSECURE", "true")]);
    assert_eq!(said.effective(&[]).listen.address.to_string(), "[::]:8585");
}

#[test]
fn the_workload_api_is_turned_on_by_the_site_alone() {
    assert_eq!(Case::new(&[]).site(&[]).identity, IdentitySettings::default());
    let site = Case::new(&[("SPIFFE_ENABLED", "true"), ("TOKEN", "0123")]).site(&[]);
    let endpoint = "unix:///run/spire/sockets/agent.sock".to_owned();
    assert_eq!(site.identity.source, IdentitySource::WorkloadApi { endpoint });
    assert_eq!(site.identity.expected_server, ExpectedServer::GroundControl);
    assert!(site.warnings.iter().any(|warning| warning.starts_with("TOKEN has no effect")));
    let file = r#"{"app_config":{"spiffe":{"enabled":true,"endpoint_socket":"unix:///run/file.sock","expected_server_id":"spiffe://td/x"}}}"#;
    let site = Case::new(&[("SPIFFE_EXPECTED_SERVER_ID", "any")]).file(file).site(&[]);
    let endpoint = "unix:///run/file.sock".to_owned();
    assert_eq!(site.identity.source, IdentitySource::WorkloadApi { endpoint });
    assert_eq!(site.identity.expected_server, ExpectedServer::Any);
    let site = Case::new(&[("SPIFFE_ENABLED", "false")]).file(file).site(&[]);
    assert!(!site.identity.is_spiffe(), "a variable outranks the file");
}

#[test]
fn an_svid_is_not_shown_over_plain_http() {
    let text =
        Case::new(&[("GROUND_CONTROL_URL", "http://127.0.0.1:8080"), ("SPIFFE_ENABLED", "true")]).usage(&[]);
    assert!(text.contains("GROUND_CONTROL_URL") && text.contains("https"), "{text}");
}

#[test]
fn what_is_unknown_or_broken_ends_the_start() {
    let case = Case::new(&[]);
    assert!(case.usage(&["--no-such-flag"]).contains("--no-such-flag"));
    assert!(case.usage(&["no-such-command"]).contains("no-such-command"));
    assert!(case.usage(&["--log-level"]).contains("--log-level"));
    for file in
        ["{", "[]", r#"{"app_config":{"log_level":"loud"}}"#, r#"{"app_config":{"use_unsecure":"yes"}}"#]
    {
        assert!(Case::new(&[]).file(file).usage(&[]).contains("config.json"), "{file}");
    }
}

#[test]
fn a_broken_dot_env_is_named_and_its_content_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".env");
    assert_eq!(read_dot_env(&path).unwrap(), BTreeMap::new());
    blob_store::durable::write_file(&path, b"# site\nTOKEN=abc\nLOG_LEVEL=\"debug\"\n", 0o600).unwrap();
    let read = read_dot_env(&path).unwrap();
    assert_eq!((read["TOKEN"].as_str(), read["LOG_LEVEL"].as_str()), ("abc", "debug"));
    blob_store::durable::write_file(&path, b"REGISTRY PASSWORD hunter2\n", 0o600).unwrap();
    let text = read_dot_env(&path).unwrap_err().to_string();
    assert!(text.contains(".env") && !text.contains("hunter2"), "{text}");
}

#[test]
fn plain_http_beyond_loopback_has_to_be_allowed() {
    for (name, url) in
        [("GROUND_CONTROL_URL", "http://gc.example.com"), ("HARBOR_REGISTRY_URL", "http://192.0.2.1")]
    {
        let text = Case::new(&[(name, url)]).usage(&[]);
        assert!(text.contains(name) && text.contains("USE_UNSECURE"), "{text}");
        Case::new(&[(name, url), ("USE_UNSECURE", "true")]).site(&[]);
    }
    let byo = [("BYO_REGISTRY", "true"), ("REGISTRY_URL", "http://192.0.2.1:5000")];
    assert!(Case::new(&byo).usage(&[]).contains("REGISTRY_URL"));
    for near in ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "http://127.9.9.9"] {
        Case::new(&[("GROUND_CONTROL_URL", near)]).site(&[]);
    }
}

#[test]
fn a_registry_of_ones_own_needs_its_url() {
    assert!(Case::new(&[("BYO_REGISTRY", "true")]).usage(&[]).contains("REGISTRY_URL"));
    let case = Case::new(&[
        ("BYO_REGISTRY", "true"),
        ("REGISTRY_URL", "byo.example.com/mirror"),
        ("REGISTRY_USERNAME", "robot"),
        ("REGISTRY_PASSWORD", "s3cret"),
    ]);
    let effective = case.effective(&[]);
    let byo = effective.byo_registry.as_ref().unwrap();
    assert_eq!((byo.url.as_str(), byo.username.as_str()), ("https://byo.example.com/mirror", "robot"));
    assert_eq!(byo.password.expose_secret(), "s3cret");
    assert!(!format!("{:?} {effective:?}", case.site(&[])).contains("s3cret"));
    assert!(Case::new(&[("REGISTRY_URL", "https://byo.example.com")]).effective(&[]).byo_registry.is_none());
}

#[test]
fn secrets_as_flags_are_taken_with_a_warning_that_names_the_variable() {
    let site = Case::new(&[]).site(&["--token=0123", "--registry-password", "x"]);
    assert_eq!(site.token.unwrap().expose_secret(), "0123");
    assert!(site.warnings.iter().any(|warning| warning.contains("TOKEN") && !warning.contains("0123")));
    assert!(site.warnings.iter().any(|warning| warning.contains("REGISTRY_PASSWORD")));
    assert!(Case::new(&[("TOKEN", "0123"), ("REGISTRY_PASSWORD", "x")]).site(&[]).warnings.is_empty());
}

#[test]
fn the_configuration_directory_follows_xdg() {
    let of = |variables: &[(&str, &str)]| {
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let environment = Environment { variables, ..Environment::default() };
        parse([OsString::from("satellite")], &environment).map(|invocation| match invocation {
            Invocation::Run(site) => site.config_dir,
            other => panic!("not a run: {other:?}"),
        })
    };
    assert_eq!(of(&[("HOME", "/h")]).unwrap(), Path::new("/h/.config/satellite"));
    assert_eq!(of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]).unwrap(), Path::new("/x/satellite"));
    assert_eq!(of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x")]).unwrap(), Path::new("/h/.config/satellite"));
    assert_eq!(of(&[("HOME", "/h"), ("CONFIG_DIR", "/c")]).unwrap(), Path::new("/c"));
    assert!(of(&[]).unwrap_err().to_string().contains("CONFIG_DIR"));
}

#[test]
fn what_follows_from_the_configuration_directory() {
    let case = Case::new(&[]);
    let site = case.site(&[]);
    assert_eq!(site.registry_data_dir, case.folder.path().join("registry"));
    assert_eq!(site.control_socket, case.folder.path().join("satellite.sock"));
}

#[test]
fn defaults() {
    let case = Case::new(&[]);
    let (site, effective) = (case.site(&[]), case.effective(&[]));
    let every = |seconds| Schedule::every(Duration::from_secs(seconds)).interval();
    assert_eq!(effective.state_replication_interval.interval(), every(10));
    assert_eq!(effective.register_satellite_interval.interval(), every(30));
    assert_eq!(effective.heartbeat_interval.interval(), every(30));
    assert_eq!(effective.referrer_interval, Duration::from_secs(600));
    assert_eq!(effective.listen.address.to_string(), "127.0.0.1:8585");
    assert_eq!(site.shutdown_timeout, Duration::from_secs(30));
    assert!(
        effective.gc && !effective.use_unsecure && !effective.tls.skip_verify && effective.platforms.is_all()
    );
    assert!(site.json_logging.is_none() && site.warnings.is_empty());
}

#[test]
fn the_config_file_speaks_below_flags_and_may_hold_the_sites_secret() {
    let case = Case::new(&[]).file(
        r#"{"app_config":{"heartbeat_interval":"@every 1m","bring_own_registry":true,"new_setting":1,
            "local_registry":{"url":"https://byo.example.com","username":"u","password":"p"}},
            "zot_config":{"storage":{"rootDirectory":"/data/registry","dedupe":true},"http":{"address":"127.0.0.2","port":5000}}}"#,
    );
    let (site, effective) = (case.site(&[]), case.effective(&[]));
    assert_eq!(effective.heartbeat_interval.interval(), Some(Duration::from_secs(60)));
    assert_eq!(effective.byo_registry.unwrap().password.expose_secret(), "p");
    assert_eq!(site.registry_data_dir, Path::new("/data/registry"));
    assert_eq!(effective.listen.address.to_string(), "127.0.0.2:5000");
    assert!(site.warnings.iter().any(|warning| warning.contains("app_config.new_setting")));
    assert!(site.warnings.iter().any(|warning| warning.contains("zot_config.storage.dedupe")));
    assert_eq!(case.site(&["--registry-data-dir=/other"]).registry_data_dir, Path::new("/other"));
}

#[test]
fn beyond_loopback_only_by_the_sites_own_word() {
    let file = r#"{"zot_config":{"http":{"address":"0.0.0.0","port":"5000"}}}"#;
    let case = Case::new(&[]).file(file);
    assert_eq!(case.effective(&[]).listen.address.to_string(), "127.0.0.1:5000");
    assert!(case.site(&[]).warnings.iter().any(|warning| warning.contains("zot_config.http.address")));
    let listen = case.effective(&["--registry-listen=0.0.0.0:5001", "--registry-listen-unsecure"]).listen;
    assert_eq!((listen.address.to_string().as_str(), listen.unsecure), ("0.0.0.0:5001", true));
}
