use proptest::prelude::*;

use super::*;
use crate::edit::laws;
use crate::secret::Hidden;

const OURS: &str = "http://127.0.0.1:8585";

fn edit(text: &str) -> String {
    let mirrors = [MirrorHost::new(OURS)];
    laws::check(
        text,
        |text| apply(Some(text), "docker.io", &mirrors),
        |text| strip(text, "docker.io", &[OURS.to_owned()]),
    )
    .text
}

#[test]
fn a_new_file() {
    assert_eq!(
        edit(""),
        "server = \"https://registry-1.docker.io\"\n\n[host.\"http://127.0.0.1:8585\"]\n  capabilities = [\"pull\", \"resolve\"]\n"
    );
    let mirror = MirrorHost {
        ca: Some("/ca.pem".into()),
        dial_timeout: Some(300),
        headers: vec![("Authorization".into(), Hidden::new("Basic eA=="))],
        ..MirrorHost::new("https://10.0.0.2:8585")
    };
    let text = apply(None, "quay.io", &[mirror]).unwrap().text;
    assert!(text.starts_with("server = \"https://quay.io\"\n"), "{text}");
    assert!(
        text.contains("dial_timeout = \"300ms\"") && text.contains("\"Authorization\" = [\"Basic eA==\"]")
    );
    assert!(!apply(None, "_default", &[MirrorHost::new(OURS)]).unwrap().text.contains("server"));
}

#[test]
fn ours_comes_first() {
    let text = edit(
        "# site\nserver = \"https://x\"\n\n# the peer\n[host.\"http://peer:30020\"]\n  capabilities = [\"pull\"] # odd\n",
    );
    assert_eq!(
        text,
        "# site\nserver = \"https://x\"\n\n[host.\"http://127.0.0.1:8585\"]\n  capabilities = [\"pull\", \"resolve\"]\n\n# the peer\n[host.\"http://peer:30020\"]\n  capabilities = [\"pull\"] # odd\n"
    );
}

#[test]
fn order_of_several_is_kept() {
    let mirrors = [MirrorHost::new("http://127.0.0.1:30020"), MirrorHost::new(OURS)];
    let text = apply(Some("[host.\"https://z\"]\n"), "quay.io", &mirrors).unwrap().text;
    let places: Vec<_> = ["30020", "8585", "https://z"].iter().map(|host| text.find(host).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn an_operators_own_entry_of_ours_stays() {
    let text = format!("[host.\"{OURS}\"]\ncapabilities = [\"pull\"]\n");
    assert!(!apply(Some(&text), "docker.io", &[MirrorHost::new(OURS)]).unwrap().is_change());
    for text in ["host = {}\n", "server = \n", "[host]\n\"https://x\" = {}\n\"http://127.0.0.1:8585\" = 3\n["]
    {
        assert!(apply(Some(text), "docker.io", &[MirrorHost::new(OURS)]).is_err(), "{text}");
    }
}

#[test]
fn certificates_of_the_registry_itself_go_on_counting() {
    let names: Vec<String> = ["ca.crt", "client.cert", "client.key", "lone.cert"].map(str::to_owned).to_vec();
    let text = of_certificates("r.example:5000", "/c/r.example:5000", &names).unwrap();
    assert_eq!(
        text,
        "server = \"https://r.example:5000\"\nca = [\"/c/r.example:5000/ca.crt\"]\nclient = [[\"/c/r.example:5000/client.cert\", \"/c/r.example:5000/client.key\"]]\n"
    );
    let both = apply(Some(&text), "r.example:5000", &[MirrorHost::new(OURS)]).unwrap().text;
    assert!(both.starts_with(&text) && both.contains(OURS));
    assert_eq!(of_certificates("r.example", "/c", &["lone.cert".to_owned()]), None);
}

proptest! {
    #[test]
    fn any_file(
        root in proptest::sample::subsequence(vec!["server = \"https://s\"\n", "# note\n", "ca = \"/c\" # d\n", "skip_verify = false\n", "\n"], 0..5),
        tables in proptest::sample::subsequence(vec![
            "[host]\n", "[host.\"https://a\"]\n  capabilities = [\"pull\"]\n", "  # b\n  [host.\"https://b\"]\n",
            "[host.\"https://a\".header]\n x = [\"y\"]\n", "[header]\n  h = \"i\"\n",
        ], 0..5).prop_shuffle(),
        newline_at_end: bool,
    ) {
        let text = format!("{}{}", root.concat(), tables.concat());
        let text = if newline_at_end { text.as_str() } else { text.trim_end() };
        // A text of nothing but comments is new to us: its `server` line is ours too.
        let mirrors = [MirrorHost::new(OURS)];
        let edit = apply(Some(text), "docker.io", &mirrors).unwrap();
        prop_assert_eq!(edit.undo(), text);
        prop_assert!(!apply(Some(&edit.text), "docker.io", &mirrors).unwrap().is_change());
        prop_assert!(!names(&strip(&edit.text, "docker.io", &[OURS.to_owned()]).unwrap().text, OURS).unwrap());
    }
}

#[test]
fn peers_come_first_and_are_asked_by_digest_alone() {
    let peer = MirrorHost { by_digest: true, ..MirrorHost::new("http://10.0.0.7:30020") };
    let mirrors = [peer, MirrorHost::new(OURS)];
    let urls: Vec<String> = mirrors.iter().map(|mirror| mirror.url.clone()).collect();
    let theirs = "[host.\"https://theirs.example\"]\n";
    let edit = laws::check(
        theirs,
        |text| apply(Some(text), "quay.io", &mirrors),
        |text| strip(text, "quay.io", &urls),
    );
    assert_eq!(
        edit.text,
        "[host.\"http://10.0.0.7:30020\"]\n  capabilities = [\"pull\"]\n\n\
         [host.\"http://127.0.0.1:8585\"]\n  capabilities = [\"pull\", \"resolve\"]\n\n\
         [host.\"https://theirs.example\"]\n"
    );
}
