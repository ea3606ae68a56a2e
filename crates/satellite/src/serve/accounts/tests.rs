use super::*;

fn password(text: &str) -> SecretString {
    SecretString::from(text)
}

fn here() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.put(text, 0o600);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("accounts")
    }

    fn put(&self, text: &str, mode: u32) {
        blob_store::durable::write_file(&self.path(), text.as_bytes(), mode).unwrap();
    }
}

#[tokio::test]
async fn only_the_right_password_of_a_known_name_passes() {
    let file =
        File::new(&format!("# nodes\n\n{}\nold:!\n", line("node", &password("correct horse")).unwrap()));
    let accounts = Accounts::default();
    accounts.read(&file.path()).unwrap();
    assert_eq!(accounts.len(), 2);
    for (name, text, passes) in [
        ("node", "correct horse", true),
        ("node", "correct horse", true),
        ("node", "correct Horse", false),
        ("old", "!", false),
        ("", "", false),
        ("nobody", "correct horse", false),
        ("Node", "correct horse", false),
    ] {
        let outcome = accounts.check(name, password(text), here()).await;
        assert_eq!(outcome, if passes { Ok(()) } else { Err(Refusal::Unauthenticated) }, "{name}");
    }
    assert!(accounts.is_locked("old") && !accounts.is_locked("node"));
}

#[tokio::test]
async fn what_was_proved_is_not_stretched_again_until_it_changes() {
    let first = line("node", &password("first password")).unwrap();
    let file = File::new(&first);
    let accounts = Accounts::default();
    accounts.read(&file.path()).unwrap();
    assert_eq!(accounts.check("node", password("first password"), here()).await, Ok(()));
    // With every turn taken, only what is known already is answered.
    let _turn = accounts.0.turn.acquire().await.unwrap();
    for _ in 0..100 {
        assert_eq!(accounts.check("node", password("first password"), here()).await, Ok(()));
    }
    file.put(&line("node", &password("second password")).unwrap(), 0o600);
    accounts.read(&file.path()).unwrap();
    drop(_turn);
    let outcome = accounts.check("node", password("first password"), here()).await;
    assert_eq!(outcome, Err(Refusal::Unauthenticated));
    assert_eq!(accounts.check("node", password("second password"), here()).await, Ok(()));
}

#[tokio::test]
async fn who_is_wrong_often_waits_and_who_is_known_does_not() {
    let file = File::new(&line("node", &password("right password")).unwrap());
    let accounts = Accounts::default();
    accounts.read(&file.path()).unwrap();
    assert_eq!(accounts.check("node", password("right password"), here()).await, Ok(()));
    let mut refused = 0;
    for _ in 0..12 {
        match accounts.check("node", password("wrong password"), here()).await {
            Err(Refusal::Unauthenticated) => refused += 1,
            Err(Refusal::TooManyRequests(wait)) => assert!(!wait.is_zero()),
            other => panic!("{other:?}"),
        }
    }
    assert!((10..12).contains(&refused), "{refused}");
    assert_eq!(accounts.check("node", password("right password"), here()).await, Ok(()));
    let there = "192.0.2.2".parse().unwrap();
    assert_eq!(accounts.check("node", password("x"), there).await, Err(Refusal::Unauthenticated));
}

#[test]
fn a_file_that_says_nothing_sensible_changes_nothing() {
    let good = line("node", &password("right password")).unwrap();
    let file = File::new(&good);
    let accounts = Accounts::default();
    accounts.read(&file.path()).unwrap();
    let heavy = good.replace("m=19456", "m=4000000");
    let slow = good.replace("t=2", "t=4000");
    for (text, mode, word) in [
        (format!("{good}\nnonsense\n"), 0o600, "line 2"),
        ("a b:!\n".to_owned(), 0o600, "name"),
        ("node:hunter2\n".to_owned(), 0o600, "argon2id"),
        (format!("{good}\nnode:!\n"), 0o600, "repeats"),
        (heavy, 0o600, "argon2id"),
        (slow, 0o600, "argon2id"),
        (good.replace("argon2id", "argon2i"), 0o600, "argon2id"),
        (good.clone(), 0o660, "0600"),
        (good.clone(), 0o606, "0600"),
        (format!("#{}", "x".repeat(1024 * 1024)), 0o600, "1 MiB"),
    ] {
        file.put(&text, mode);
        // The process's mask may have taken it away.
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let error = accounts.read(&file.path()).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        assert_eq!(accounts.len(), 1, "{error}");
    }
    std::fs::remove_file(file.path()).unwrap();
    assert!(matches!(accounts.read(&file.path()), Err(AccountsError::File { .. })));
    file.put("", 0o640);
    accounts.read(&file.path()).unwrap();
    assert!(accounts.is_empty());
}

#[test]
fn a_line_is_made_of_what_can_be_used() {
    for (name, text) in [("a:b", "long enough"), ("", "long enough"), ("a", "short"), ("a", "with\ncontrol")]
    {
        assert!(matches!(line(name, &password(text)), Err(AccountsError::Unfit(_))), "{name} {text}");
    }
    assert_ne!(line("a", &password("long enough")), line("a", &password("long enough")), "each has its salt");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "([a-z:$!#\n,=0-9]|argon2id|node:){0,60}") {
        let _outcome = parse(&text);
    }
}
