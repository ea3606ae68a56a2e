use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn names() -> Names {
    Names { names: vec!["site.example".to_owned()], addresses: vec!["192.0.2.7".parse().unwrap()] }
}

#[test]
fn it_is_made_once_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("config");
    let first = LocalCa::open(&dir).unwrap();
    assert_eq!(fs::metadata(dir.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(LocalCa::open(&dir).unwrap().certificate_pem(), first.certificate_pem());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left over");
    assert!(!first.certificate_pem().contains("PRIVATE"));
}

#[test]
fn of_many_that_make_it_all_get_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<String> = std::thread::scope(|scope| {
        let open = || LocalCa::open(folder.path()).unwrap().certificate_pem();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(all.iter().all(|pem| *pem == all[0]));
}

#[test]
fn what_is_none_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let mine = LocalCa::open(folder.path()).unwrap().certificate_pem();
    LocalCa::open(other.path()).unwrap();
    let foreign = fs::read_to_string(other.path().join(FILE)).unwrap();
    let key = &foreign[foreign.find("-----BEGIN PRIVATE").unwrap()..];
    for text in ["", "x", mine.as_str(), &format!("{mine}{key}")] {
        durable::write_file(&folder.path().join(FILE), text.as_bytes(), 0o600).unwrap();
        let error = LocalCa::open(folder.path()).unwrap_err();
        assert!(matches!(error, LocalCaError::Malformed { .. }), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), text);
    }
}

#[test]
fn what_it_signs_is_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let ca = LocalCa::open(folder.path()).unwrap();
    let now = Timestamp::now();
    let server = ca.issue_server(&names(), now).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&server.certificate).unwrap();
    assert_eq!(parsed.validity().not_after.timestamp(), (now + SERVER_LIFE).as_second());
    let sans = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(sans, 2);
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth);

    let client = ca.issue_client("node-1", now, SignedDuration::from_hours(24 * 365 * 100)).unwrap();
    assert_eq!(client.not_after, ca.not_after(), "nothing outlives the authority");
    let (_, parsed) = x509_parser::parse_x509_certificate(&client.certificate).unwrap();
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !parsed.is_ca());
    for name in ["", "a b", "a:b", "ä", &"x".repeat(64)] {
        assert!(matches!(ca.issue_client(name, now, SERVER_LIFE), Err(LocalCaError::Name(_))), "{name}");
    }
}

#[test]
fn one_that_was_made_in_1970_is_good_today() {
    let text = LocalCa::generate(Timestamp::UNIX_EPOCH).unwrap();
    let certificate = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
    assert!(parsed.validity().is_valid());
}
