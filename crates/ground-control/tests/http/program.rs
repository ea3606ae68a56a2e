//! The built program: its exit codes, its start, its log and its end.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::ADMIN_PASSWORD;

pub(crate) fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground-control"));
    command.env_clear().current_dir(dir).env("DATA_DIR", dir.join("data")).env("LISTEN", "127.0.0.1:0");
    command.env("ADMIN_LISTEN", "off");
    command
}

/// A running program, whose log is read line by line; killed if a test ends before it does.
pub(crate) struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| drop(send.send(line))));
        Self { child, lines }
    }

    /// The first line of the log with this message, and all lines before it.
    pub(crate) fn until(&self, message: &str) -> (Value, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30)).unwrap_or_else(|_| {
                panic!("no {message:?} after {before:#?}");
            });
            match serde_json::from_str::<Value>(&line) {
                Ok(entry) if entry["message"] == message => return (entry, before),
                _ => before.push(line),
            }
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

fn refused(dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = program(dir).args(arguments).envs(variables.iter().copied()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn mistakes_end_the_start_with_2_and_the_name() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, variables, named) in [
        (&["--listne", "x"][..], &[][..], "--listne"),
        (&[], &[("LISTEN", "nowhere")], "LISTEN"),
        (&[], &[("AUDIT_SYSLOG_TARGET", "printer")], "AUDIT_SYSLOG_TARGET"),
        (&[], &[("AUDIT_OTEL_ENDPOINT", "nowhere")], "AUDIT_OTEL_ENDPOINT"),
        (
            &[],
            &[("SPIFFE_SERVER_ENABLED", "true"), ("TLS_CERT_FILE", "c"), ("TLS_KEY_FILE", "k")],
            "TLS_CERT_FILE: with SPIFFE_SERVER_ENABLED",
        ),
        (&["--session-duration=long"], &[], "SESSION_DURATION"),
        (&["surf"], &[], "surf"),
    ] {
        let (code, text) = refused(dir.path(), arguments, variables);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(named), "{text}");
    }
    assert!(!dir.path().join("data").try_exists().unwrap(), "a refused start touches nothing");
    let help = program(dir.path()).arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("PUBLIC_REGISTRY_URL"));
}

#[test]
fn a_start_that_fails_ends_with_1_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = refused(dir.path(), &["--listen", &address], &[("ADMIN_PASSWORD", ADMIN_PASSWORD)]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("LISTEN") && text.contains(&address), "{text}");
    let (code, text) =
        refused(dir.path(), &[], &[("TLS_CERT_FILE", "none.pem"), ("TLS_KEY_FILE", "none.pem")]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("TLS_CERT_FILE") && text.contains("none.pem"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_serves_finishes_what_is_under_way_and_ends_with_0() {
    crate::support::provider();
    let dir = tempfile::tempdir().unwrap();
    let mut dotenv = std::fs::File::create(dir.path().join(".env")).unwrap();
    std::io::Write::write_all(&mut dotenv, b"LOG_LEVEL=debug\nLISTEN=nonsense\n").unwrap();
    let mut program = Program::start(program(dir.path()));
    let (listening, before) = program.until("listening");
    let address = listening["address"].as_str().unwrap().to_owned();
    assert_eq!(listening["url"], json!(format!("http://{address}")));
    // The password is made up; it is shown once, and not in the log.
    let shown =
        |lines: &[String]| lines.iter().find_map(|line| Some(line.split_once("only now: ")?.1.to_owned()));
    let password = shown(&before).unwrap_or_else(|| {
        loop {
            let line = program.lines.recv_timeout(Duration::from_secs(30)).unwrap();
            if let Some(password) = shown(&[line]) {
                break password;
            }
        }
    });

    let client = reqwest::Client::new();
    let login = json!({"username": "admin", "password": password});
    let answer = client.post(format!("http://{address}/login")).json(&login).send().await.unwrap();
    let session: Value = answer.error_for_status().unwrap().json().await.unwrap();
    let body = json!({"name": "edge-01"});
    let make = client
        .post(format!("http://{address}/api/satellites"))
        .bearer_auth(session["token"].as_str().unwrap());
    let made: Value =
        make.json(&body).send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    let ztr = client.get(format!("http://{address}/satellites/ztr/{token}")).send().await.unwrap();
    let registered: Value = ztr.error_for_status().unwrap().json().await.unwrap();

    // A request that is half sent when the signal comes is still answered.
    let mut half = tokio::net::TcpStream::connect(&address).await.unwrap();
    let body = login.to_string();
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    tokio::io::AsyncWriteExt::write_all(&mut half, head.as_bytes()).await.unwrap();
    client.get(format!("http://{address}/ping")).send().await.unwrap();
    program.signal(rustix::process::Signal::TERM);
    program.until("stopping");
    tokio::io::AsyncWriteExt::write_all(&mut half, body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut half, &mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    let (_, rest) = program.until("stopped");
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
    let secret = registered["auth"]["password"].as_str().unwrap();
    for line in before.iter().chain(&rest) {
        let hidden = !line.contains(token) && !line.contains(secret);
        assert!(hidden, "a secret in the log: {line}");
        assert!(!line.starts_with('{') || !line.contains(&password), "the password in the log: {line}");
    }
}

#[test]
fn republish_writes_all_documents_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path());
    command.env("ADMIN_PASSWORD", ADMIN_PASSWORD);
    let mut server = Program::start(command);
    server.until("listening");
    let republish = |expected: &str| {
        let mut command = program(dir.path());
        command.arg("republish");
        let mut program = Program::start(command);
        let (done, _) = program.until(expected);
        assert_eq!(program.child.wait().unwrap().code(), Some(0));
        done
    };
    republish("the running server republishes");
    server.signal(rustix::process::Signal::TERM);
    server.until("stopped");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let done = republish("republished");
    assert_eq!((&done["failures"], &done["published"]), (&json!(0), &json!(1)), "{done}");
    // Without a start before it there is no address that documents could hold.
    let empty = tempfile::tempdir().unwrap();
    let (code, text) = refused(empty.path(), &["republish"], &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("PUBLIC_REGISTRY_URL"), "{text}");
}

#[test]
fn whether_it_is_ready_is_asked_by_a_second_process() {
    let dir = tempfile::tempdir().unwrap();
    let ask = |admin: &str| {
        let output = program(dir.path()).arg("health").env("ADMIN_LISTEN", admin).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = ask("off");
    assert!(code == Some(1) && said.starts_with("ADMIN_LISTEN: off"), "{said}");
    assert!(!dir.path().join("data").try_exists().unwrap(), "a question touches nothing");

    let mut command = program(dir.path());
    command.env("ADMIN_PASSWORD", ADMIN_PASSWORD).env("ADMIN_LISTEN", "127.0.0.1:0");
    let mut server = Program::start(command);
    let (listening, _) = server.until("listening");
    let address = listening["admin"].as_str().unwrap();
    // It listens a moment before it looked for what is to be published.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match ask(address) {
            (Some(0), said) => break assert_eq!(said, "ready\n"),
            (code, said) => {
                assert!(code == Some(1) && said.contains("not ready"), "{said}");
                assert!(std::time::Instant::now() < deadline, "{said}");
            }
        }
    }
    server.signal(rustix::process::Signal::TERM);
    server.until("stopped");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let (code, said) = ask(address);
    assert!(code == Some(1) && said.contains("no answer"), "{said}");
}
