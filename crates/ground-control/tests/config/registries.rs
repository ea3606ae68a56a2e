//! Which registry it is, and what each needs.

use ground_control::config::RegistryConfig;

use super::environment;

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
