use proptest::prelude::*;

use super::*;
use crate::edit::laws;

const V1_6: Version = Version { major: 1, minor: 6, patch: 20 };
const V2_1: Version = Version { major: 2, minor: 1, patch: 4 };
const V2_2_0: Version = Version { major: 2, minor: 2, patch: 0 };

fn edit(text: &str, engine: Version) -> Applied {
    let mut folder = String::new();
    let check = laws::check(
        text,
        |text| apply(Some(text), engine, Legacy::Refuse, None).map(|applied| applied.edit),
        |after| strip(after, CERTS_D, Some(text)),
    );
    folder.push_str(&inspect(&check.text).unwrap().config_path.unwrap());
    assert_eq!(folder, CERTS_D);
    apply(Some(text), engine, Legacy::Refuse, None).unwrap()
}

const DEBIAN: &str = r#"version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"#;

#[test]
fn the_key_follows_the_version_of_the_file() {
    assert_eq!(
        edit(DEBIAN, V1_6).edit.text,
        r#"version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"

    [plugins."io.containerd.grpc.v1.cri".registry]
      config_path = "/etc/containerd/certs.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"#
    );
    assert!(edit(DEBIAN, V2_1).edit.text.contains("[plugins.\"io.containerd.grpc.v1.cri\".registry]"));
    assert!(
        edit("version = 3\n", V2_1).edit.text.contains("[plugins.\"io.containerd.cri.v1.images\".registry]")
    );
    assert!(edit("root = \"/x\"\n", V1_6).edit.text.contains("[plugins.cri.registry]"));
    assert!(matches!(apply(Some("version = 9\n"), V2_1, Legacy::Refuse, None), Err(Refusal::Shape(_))));
}

#[test]
fn a_new_file_has_the_version_of_the_engine() {
    for (engine, version, plugin) in
        [(V1_6, 2, "io.containerd.grpc.v1.cri"), (V2_1, 3, "io.containerd.cri.v1.images")]
    {
        let made = apply(None, engine, Legacy::Refuse, None).unwrap().edit.text;
        assert_eq!(
            made,
            format!(
                "version = {version}\n\n[plugins.\"{plugin}\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n"
            )
        );
    }
    edit("# nothing but this\n", V1_6);
}

#[test]
fn every_usual_form() {
    for text in [
        "version = 2 # two\n[plugins.'io.containerd.grpc.v1.cri'.registry] # here\n  # of ours\n  x = 1\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\n a = [\"b\"] # c\n\n# end",
        "version = 2\r\n# windows\r\n[plugins]\r\n  [plugins.\"io.containerd.grpc.v1.cri\"]\r\n    x = 1",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"a:5000\".auth]\nusername = \"u\"\n",
        "# top\nversion = 3\nunknown_key = [1,\n 2] # odd\n\n\n[debug]\nlevel = 'info'\n",
    ] {
        edit(text, V1_6);
    }
    let empty = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n config_path = \"\" # none\n";
    let applied = apply(Some(empty), V1_6, Legacy::Refuse, None).unwrap();
    assert_eq!(applied.edit.undo(), empty);
    assert!(applied.edit.text.contains("config_path = \"/etc/containerd/certs.d\" # none"));
}

#[test]
fn a_folder_that_is_set_is_used() {
    let text = |path: &str| {
        format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{path}\"\n")
    };
    for (path, engine, folder, changed, copied) in [
        ("/x", V1_6, "/x", false, vec![]),
        ("/x:/y", V1_6, "/x", false, vec![]),
        ("/x:/y", V2_1, "/x", false, vec![]),
        ("/x:/y", V2_2_0, CERTS_D, true, vec!["/x", "/y"]),
        ("/x", V2_2_0, "/x", false, vec![]),
    ] {
        let applied = apply(Some(&text(path)), engine, Legacy::Refuse, None).unwrap();
        assert_eq!(
            (applied.folder.as_str(), applied.edit.is_change()),
            (folder, changed),
            "{path} {engine:?}"
        );
        assert_eq!(applied.copy_from, copied);
    }
    assert_eq!(edit("version = 3\n", V2_1).copy_from, ["/etc/docker/certs.d"]);
    let imported = Found { config_path: Some("/z".into()), ..inspect("version = 2").unwrap() };
    let applied =
        apply(Some("version = 2\nimports = [\"/i\"]\n"), V1_6, Legacy::Refuse, Some(&imported)).unwrap();
    assert_eq!((applied.folder.as_str(), applied.edit.is_change()), ("/z", false));
}

const LEGACY: &str = r#"version = 2
# mirrors of the site
[plugins."io.containerd.grpc.v1.cri".registry]
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors]
    [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
      endpoint = ["https://m.example:5000", "http://n/v2/x"]
  [plugins."io.containerd.grpc.v1.cri".registry.configs."m.example:5000".tls]
    ca_file = "/ca.pem"
  [plugins."io.containerd.grpc.v1.cri".registry.configs."r.example".tls]
    insecure_skip_verify = true
  [plugins."io.containerd.grpc.v1.cri".registry.configs."r.example".auth]
    username = "u"
[debug]
  level = "info"
"#;

#[test]
fn what_excludes_the_folder_is_refused_or_moved() {
    let refused = apply(Some(LEGACY), V1_6, Legacy::Refuse, None).unwrap_err().to_string();
    assert!(refused.contains("docker.io") && refused.contains("CRI plugin"), "{refused}");
    let applied = apply(Some(LEGACY), V1_6, Legacy::Move, None).unwrap();
    let after = inspect(&applied.edit.text).unwrap();
    assert_eq!((after.legacy, after.config_path.as_deref()), (vec![], Some(CERTS_D)));
    assert!(
        applied.edit.text.contains("username = \"u\"") && applied.edit.text.contains("# mirrors of the site")
    );
    assert_eq!(applied.edit.undo(), LEGACY);
    let hub = &applied.moved[0];
    assert_eq!(hub.registry, "docker.io");
    assert_eq!(
        (hub.mirrors[0].url.as_str(), hub.mirrors[0].ca.as_deref()),
        ("https://m.example:5000", Some("/ca.pem"))
    );
    assert!(
        applied
            .moved
            .iter()
            .any(|moved| moved.registry == "r.example" && moved.itself.as_ref().unwrap().skip_verify)
    );
    let hosts = super::super::hosts::adopt(None, hub).unwrap().text;
    assert!(hosts.contains("ca = \"/ca.pem\"") && hosts.contains("override_path = true"), "{hosts}");
    let imported = inspect(LEGACY).unwrap();
    assert!(apply(Some("version = 2\n"), V1_6, Legacy::Move, Some(&imported)).is_err());
}

#[test]
fn what_cannot_be_edited_is_refused() {
    for text in [
        "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { registry = {} }\n",
        "version = \"2\"\n",
        "version = 2\n[plugins\n",
        "plugins = 3\n",
    ] {
        assert!(apply(Some(text), V1_6, Legacy::Refuse, None).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_mixture_of_tables(
        parts in proptest::sample::subsequence(vec![
            "[plugins]\n",
            "[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"a\" # b\n",
            "# c\n  [plugins.\"io.containerd.grpc.v1.cri\".registry]\n",
            "[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\nx = [\"y\"]\n",
            "[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\n  a = '''\n[not.a.header]\n'''\n",
            "[plugins.\"io.containerd.internal.v1.opt\"]\npath = \"/o\"\n\n",
            "[grpc]\n\taddress = \"/s\"\n",
        ], 0..7).prop_shuffle(),
        crlf: bool,
    ) {
        let text = format!("# top\nversion = 2\n{}", parts.concat());
        edit(&if crlf { text.replace('\n', "\r\n") } else { text }, V1_6);
    }
}
