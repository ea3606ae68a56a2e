//! Commands that are no start of a satellite.

use super::*;

#[test]
fn what_is_done_by_hand_reads_no_settings() {
    let case = Case::new(&[("LOG_LEVEL", "loud")]);
    let Invocation::Ca { config_dir, .. } = case.parse(&["ca", "export"]).unwrap() else {
        panic!("not a ca")
    };
    assert_eq!(config_dir, case.folder.path());
    let elsewhere = case.parse(&["ca", "export", "--config-dir=/elsewhere"]).unwrap();
    assert!(matches!(elsewhere, Invocation::Ca { config_dir, .. } if config_dir == Path::new("/elsewhere")));
    assert!(matches!(case.parse(&["accounts", "hash", "node"]).unwrap(), Invocation::Accounts(_)));
    assert!(case.usage(&["ca", "forget"]).contains("forget"));
}

#[test]
fn a_question_needs_only_the_place_of_the_process() {
    let case = Case::new(&[("GROUND_CONTROL_URL", "nonsense"), ("SPIFFE_ENABLED", "true")]);
    let asks = |arguments: &[&str]| match case.parse(arguments).unwrap() {
        Invocation::Ask { command, control_socket } => (command, control_socket),
        other => panic!("no question: {other:?}"),
    };
    let (command, socket) = asks(&["status", "--json"]);
    assert_eq!(command, Question::Status(crate::config::flags::Output { json: true }));
    assert_eq!(socket, case.folder.path().join("satellite.sock"));
    for arguments in [["images", "--config-dir=/c"], ["--config-dir=/c", "images"]] {
        assert_eq!(asks(&arguments).1, Path::new("/c/satellite.sock"));
    }
    assert_eq!(asks(&["sync", "--control-socket", "/s"]), (Question::Sync, PathBuf::from("/s")));
}

#[test]
fn an_agents_flags_have_variables_and_the_satellites_mean_nothing_to_it() {
    let environment = Environment {
        variables: [
            ("SITE", "https://s.example:8443"),
            ("SITE_TOKEN_FILE", "/token"),
            ("NODE_NAME", "of-the-variable"),
            ("INTERVAL", "5s"),
            ("GROUND_CONTROL_URL", "no url"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        ..Environment::default()
    };
    let agent = |arguments: &[&str]| {
        let all = ["satellite", "node-agent"].iter().chain(arguments).map(OsString::from);
        parse(all, &environment)
    };
    let Ok(Invocation::NodeAgent(flags)) = agent(&["--node-name=n1", "--interval", "7s"]) else { panic!() };
    assert_eq!(flags.site.as_str(), "https://s.example:8443/");
    assert_eq!((flags.node_name.as_deref(), flags.interval), (Some("n1"), Duration::from_secs(7)));
    let Ok(Invocation::NodeAgent(flags)) = agent(&[]) else { panic!() };
    assert_eq!(
        (flags.node_name.as_deref(), flags.interval),
        (Some("of-the-variable"), Duration::from_secs(5))
    );
    assert!(matches!(agent(&["--site=http://s.example"]), Err(ConfigError::Usage(_))));
    assert!(matches!(agent(&["--nothing"]), Err(ConfigError::Usage(_))));
    assert!(matches!(agent(&["--help"]), Err(ConfigError::Answer(text)) if text.contains("[env: SITE]")));
}
