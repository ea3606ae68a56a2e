//! What is said of container runtimes: mirrors and image folders.

use super::*;

#[test]
fn an_image_folder_is_the_sites_word_or_one_of_ranchers() {
    let site = Case::new(&[("DIRECT_DELIVERY", "true")]).site(&["--image-dir=/srv/images/"]);
    let folder = Effective::of(&site, &Layer::default()).image_folder.unwrap();
    assert_eq!(folder.dir.as_deref(), Some(Path::new("/srv/images")));
    let asked =
        r#"{"app_config":{"direct_delivery":{"enabled":true,"image_dir":"/srv/i","platforms":"own"}}}"#;
    let site = Case::new(&[("IMAGE_DIR", "/srv/images")]).file(asked).site(&[]);
    let folder = Effective::of(&site, &Layer::default()).image_folder.unwrap();
    assert_eq!(folder.dir.as_deref(), Some(Path::new("/srv/images")), "a variable outranks the file");
    assert_eq!(folder.platforms, ImagePlatforms::Own);
    let byo =
        [("DIRECT_DELIVERY", "true"), ("BYO_REGISTRY", "true"), ("REGISTRY_URL", "https://byo.example")];
    assert!(Case::new(&byo).usage(&[]).contains("DIRECT_DELIVERY"));
}

#[test]
fn mirrors_come_from_flags_before_files_and_are_left_alone_where_that_is_asked() {
    let registries = |effective: Effective| -> Option<Vec<String>> {
        let mirrors = effective.mirrors?;
        Some(mirrors.into_iter().flat_map(|request| request.registries).collect())
    };
    let file = r#"{"app_config":{"registry_fallback":{"enabled":true,"registries":["ghcr.io"],"paths":{"ghcr.io":"gh"},
        "restart_command":"sv $2 $1","host_root":"/host"}}}"#;
    let by_file = || Case::new(&[]).file(file);
    assert_eq!(registries(by_file().effective(&[])).unwrap(), ["ghcr.io"]);
    assert_eq!(by_file().effective(&[]).mirror_paths["ghcr.io"], "gh");
    let site = by_file().site(&["--restart-command=mine"]);
    assert_eq!(site.runtimes.restart_command.as_deref(), Some("mine"));
    assert_eq!(site.runtimes.host_root, Path::new("/host"));
    let both = ["--mirrors=containerd:docker.io,quay.io", "--mirrors=podman:docker.io"];
    assert_eq!(registries(by_file().effective(&both)).unwrap(), ["docker.io", "quay.io", "docker.io"]);
    assert_eq!(registries(by_file().effective(&["--no-registry-fallback"])), None);
    assert_eq!(registries(Case::new(&[]).effective(&[])), Some(Vec::new()));

    assert!(Case::new(&[]).usage(&["--fallback-only"]).contains("MIRRORS"));
    assert!(by_file().site(&["--fallback-only"]).runtimes.only_mirrors);
}

#[test]
fn mirrors_by_hand_need_none_of_the_satellite_s_settings() {
    let case = Case::new(&[("GROUND_CONTROL_URL", "nonsense"), ("MIRRORS", "nonsense")]);
    let action = |arguments: &[&str]| match case.parse(arguments).unwrap() {
        Invocation::Mirrors(action) => *action,
        other => panic!("not by hand: {other:?}"),
    };
    let MirrorsAction::Apply { wish, place, restarts, output } =
        action(&["mirrors", "apply", "--mirrors=containerd:docker.io", "--mirrors", "docker:true"])
    else {
        panic!("another action")
    };
    assert_eq!(wish.mirrors, ["containerd:docker.io", "docker:true"]);
    assert_eq!(
        (wish.endpoint.as_str(), place.host_root.as_path()),
        ("http://127.0.0.1:8585", Path::new("/"))
    );
    assert!(!restarts.no_restart && !output.json);
    assert!(matches!(action(&["mirrors", "status", "--json"]), MirrorsAction::Status { .. }));
    assert!(matches!(action(&["mirrors", "remove", "--host-root=/usr"]), MirrorsAction::Remove { .. }));
    for wrong in [
        &["mirrors", "apply"][..],
        &["mirrors", "diff", "--mirrors=x:y.z", "--endpoint=ftp://h"],
        &["mirrors", "apply", "--mirrors=docker:true", "--username=u"],
        &["mirrors", "forget"],
        &["mirrors", "status", "--host-root=/no/such/folder"],
    ] {
        assert!(matches!(case.parse(wrong), Err(ConfigError::Usage(_))), "{wrong:?}");
    }
    assert!(matches!(case.parse(&["mirrors", "--help"]), Err(ConfigError::Answer(_))));
}
