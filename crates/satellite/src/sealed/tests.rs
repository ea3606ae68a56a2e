use super::*;
use crate::device::Part;

fn facts(mac: &str, serial: &str) -> DeviceFacts {
    let part = |name: &str, identity: &str| Part { name: name.into(), identity: identity.into() };
    let parts = |name, identity: &str| if identity.is_empty() { vec![] } else { vec![part(name, identity)] };
    DeviceFacts {
        machine_id: Some("0123456789abcdef".into()),
        interfaces: parts("eth0", mac),
        disks: parts("sda", serial),
        ..DeviceFacts::default()
    }
}

fn claim() -> Claim {
    Claim { token_sha256: "aa".into(), nonce: "nonce-of-this-device".into() }
}

fn open(folder: &Path, facts: DeviceFacts) -> (Vault, Vec<Notice>) {
    Vault::open(folder, facts).unwrap()
}

/// A directory with a claim sealed to the machine of `facts`.
fn sealed_on(facts: DeviceFacts) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = open(folder.path(), facts);
    vault.change(|state| state.claim = Some(claim())).unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn text(folder: &Path) -> String {
    fs::read_to_string(folder.join(SEALED_FILE)).unwrap()
}

#[tokio::test]
async fn a_change_is_there_after_a_restart_and_not_in_the_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, notices) = open(folder.path(), facts("mac", "serial"));
    assert_eq!(notices, []);
    assert!(names(folder.path()).is_empty(), "nothing to keep, no file");
    let mut changes = vault.subscribe();
    vault.update(|state| state.claim = Some(claim())).await.unwrap();
    assert!(changes.has_changed().unwrap());
    assert_eq!(changes.borrow_and_update().claim, Some(claim()));
    assert!(!text(folder.path()).contains("nonce-of-this-device"));
    assert_eq!(names(folder.path()), [SEALED_FILE]);

    let (again, notices) = open(folder.path(), facts("mac", "serial"));
    assert_eq!(notices, []);
    assert_eq!(again.state().claim, Some(claim()));
}

#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = sealed_on(DeviceFacts::default());
    for file in [SEALED_FILE, DEVICE_KEY_FILE] {
        let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn one_replaced_part_locks_nobody_out_and_neither_does_the_next() {
    let folder = sealed_on(facts("mac", "serial"));
    let (vault, notices) = open(folder.path(), facts("new mac", "serial"));
    assert_eq!(notices, [Notice::PartReplaced]);
    assert_eq!(vault.state().claim, Some(claim()));
    // The slots were renewed, so now the other part may go.
    let (vault, notices) = open(folder.path(), facts("new mac", "new serial"));
    assert_eq!(notices, [Notice::PartReplaced]);
    assert_eq!(vault.state().claim, Some(claim()));
    let (_, notices) = open(folder.path(), facts("new mac", "new serial"));
    assert_eq!(notices, []);
}

#[test]
fn other_hardware_is_locked_out_and_the_file_kept() {
    for elsewhere in [facts("other", "other"), facts("other", ""), facts("", ""), DeviceFacts::default()] {
        let folder = sealed_on(facts("mac", "serial"));
        let before = text(folder.path());
        let (vault, notices) = open(folder.path(), elsewhere);
        assert!(vault.state().claim.is_none());
        let Notice::SetAside { path, failure } = &notices[0] else { panic!("{notices:?}") };
        assert_eq!(*failure, OpenFailure::OtherHardware);
        assert_eq!(fs::read_to_string(path).unwrap(), before);
        // It goes on with a new identity beside the old file.
        vault.change(|state| state.claim = Some(claim())).unwrap();
        assert!(folder.path().join(SEALED_FILE).try_exists().unwrap() && path.try_exists().unwrap());
    }
}

#[test]
fn the_machine_id_alone_seals_only_where_it_is_all_there_is() {
    let folder = sealed_on(facts("", ""));
    assert!(text(folder.path()).contains("machine-id"));
    let (vault, _) = open(folder.path(), facts("", ""));
    assert_eq!(vault.state().claim, Some(claim()));

    let folder = sealed_on(facts("mac", ""));
    assert!(!text(folder.path()).contains("machine-id"));
    let (vault, notices) = open(folder.path(), facts("", ""));
    assert!(vault.state().claim.is_none(), "its own slot was never made");
    assert!(matches!(notices[..], [Notice::SetAside { .. }]));
}

#[test]
fn a_key_file_stands_in_where_there_is_nothing_and_says_so() {
    let folder = sealed_on(DeviceFacts::default());
    assert_eq!(names(folder.path()), [DEVICE_KEY_FILE, SEALED_FILE]);
    let (vault, notices) = open(folder.path(), DeviceFacts::default());
    assert_eq!(notices, [Notice::NoHardware]);
    assert_eq!(vault.state().claim, Some(claim()));

    fs::remove_file(folder.path().join(DEVICE_KEY_FILE)).unwrap();
    let (_, notices) = open(folder.path(), DeviceFacts::default());
    assert!(matches!(notices[..], [Notice::SetAside { .. }, Notice::NoHardware]));
}

#[test]
fn hardware_found_later_takes_the_place_of_the_key_file() {
    let folder = sealed_on(DeviceFacts::default());
    let (vault, notices) = open(folder.path(), facts("mac", ""));
    assert_eq!(notices, [Notice::PartReplaced]);
    assert_eq!(vault.state().claim, Some(claim()));
    fs::remove_file(folder.path().join(DEVICE_KEY_FILE)).unwrap();
    let (vault, _) = open(folder.path(), facts("mac", ""));
    assert_eq!(vault.state().claim, Some(claim()));
}

#[test]
fn a_torn_file_is_set_aside() {
    let folder = sealed_on(facts("mac", "serial"));
    let whole = text(folder.path());
    durable::write_file(&folder.path().join(SEALED_FILE), &whole.as_bytes()[..whole.len() / 2], 0o600)
        .unwrap();
    let (vault, notices) = open(folder.path(), facts("mac", "serial"));
    assert!(
        matches!(&notices[..], [Notice::SetAside { failure: OpenFailure::Damaged(_), .. }]),
        "{notices:?}"
    );
    assert!(vault.state().claim.is_none());
}

#[test]
fn a_write_that_was_cut_off_leaves_the_old_state() {
    let folder = sealed_on(facts("mac", "serial"));
    // What a power cut during a write leaves behind: the next file, half, under its temporary name.
    durable::write_file(&folder.path().join(".sealed.json.0.tmp"), b"{\"header\":", 0o600).unwrap();
    let (vault, notices) = open(folder.path(), facts("mac", "serial"));
    assert_eq!(notices, []);
    assert_eq!(vault.state().claim, Some(claim()));
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join(SEALED_FILE)).unwrap();
    assert!(matches!(Vault::open(folder.path(), facts("mac", "")), Err(SealError::Io { .. })));
    assert_eq!(names(folder.path()), [SEALED_FILE]);
}

#[test]
fn a_change_that_cannot_be_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (vault, _) = open(folder.path(), facts("mac", "serial"));
    fs::create_dir(folder.path().join(SEALED_FILE)).unwrap();
    assert!(vault.change(|state| state.claim = Some(claim())).is_err());
    assert!(vault.state().claim.is_none());
    fs::remove_dir(folder.path().join(SEALED_FILE)).unwrap();
    vault.change(|state| state.claim = Some(claim())).unwrap();
    let (again, _) = open(folder.path(), facts("mac", "serial"));
    assert_eq!(again.state().claim, Some(claim()));
}

#[test]
fn nothing_secret_is_printed() {
    let folder = sealed_on(facts("mac", "serial"));
    let (vault, _) = open(folder.path(), facts("mac", "serial"));
    assert!(!format!("{vault:?} {:?}", vault.state()).contains("nonce-of"));
}

mod deployed {
    use aes_gcm::aead::{Aead as _, KeyInit as _};
    use base64::Engine as _;
    use serde_json::json;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::device::FieldFacts;

    fn facts() -> DeviceFacts {
        DeviceFacts {
            field: FieldFacts { first_mac: Some("aa:bb".into()), first_serial: None },
            ..super::facts("mac", "serial")
        }
    }

    fn document() -> serde_json::Value {
        json!({
            "state_config": {"auth": {"url": "https://h", "username": "robot$edge-01", "password": "robot-secret"},
                "state": "https://h/satellite/satellite-state/edge-01/state:latest"},
            "app_config": {"heartbeat_interval": "@every 00h01m00s", "local_registry": {"password": "local-secret"}}
        })
    }

    /// Sealed as the deployed program does, by its description rather than by this crate's code.
    fn envelope(fingerprint: &str) -> Vec<u8> {
        let (salt, nonce) = ([5_u8; 16], [6_u8; 12]);
        let mut key = [0_u8; 32];
        let params = argon2::Params::new(65_536, 3, 4, Some(32)).unwrap();
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into(hex::encode(Sha256::digest(fingerprint)).as_bytes(), &salt, &mut key)
            .unwrap();
        let sealed = aes_gcm::Aes256Gcm::new(&key.into())
            .encrypt(&nonce.into(), serde_json::to_vec(&document()).unwrap().as_slice())
            .unwrap();
        let base64 = base64::engine::general_purpose::STANDARD;
        let data = base64.encode([nonce.as_slice(), &sealed].concat());
        serde_json::to_vec(&json!({"version": 1, "salt": base64.encode(salt), "data": data})).unwrap()
    }

    fn put(bytes: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        durable::write_file(&folder.path().join(field::CONFIG_FILE), bytes, 0o600).unwrap();
        folder
    }

    #[test]
    fn its_identity_and_configuration_are_taken_over_once() {
        for bytes in [envelope("0123456789abcdef|aa:bb"), serde_json::to_vec(&document()).unwrap()] {
            let folder = put(&bytes);
            let (vault, notices) = open(folder.path(), facts());
            assert!(matches!(notices[..], [Notice::Imported { .. }]), "{notices:?}");
            let state = vault.state();
            assert_eq!(state.registration.as_ref().unwrap().auth.username, "robot$edge-01");
            let kept = serde_json::to_string(&state.remote_config).unwrap();
            assert!(kept.contains("00h01m00s") && !kept.contains("secret"), "{kept}");
            assert_eq!(
                fs::read(folder.path().join(field::CONFIG_FILE)).unwrap(),
                bytes,
                "it can be gone back to"
            );

            let (again, notices) = open(folder.path(), facts());
            assert_eq!(notices, []);
            assert!(again.state().registration.is_some());
        }
    }

    #[test]
    fn of_other_hardware_it_is_set_aside() {
        let folder = put(&envelope("another|aa:bb"));
        let (vault, notices) = open(folder.path(), facts());
        assert!(matches!(&notices[..], [Notice::SetAside { failure: OpenFailure::OtherHardware, .. }]));
        assert!(vault.state().registration.is_none());
    }

    #[test]
    fn an_operators_file_is_no_identity() {
        let bytes =
            br#"{"state_config":{"auth":{"url":"","username":"","password":""},"state":""},"app_config":{}}"#;
        assert!(!field::is_deployed(bytes));
        let folder = put(bytes);
        let (vault, notices) = open(folder.path(), facts());
        assert_eq!(notices, []);
        assert!(vault.state().registration.is_none());
        assert_eq!(names(folder.path()), [field::CONFIG_FILE]);
    }
}
