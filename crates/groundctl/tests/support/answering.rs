//! A Ground Control of one canned answer, and the built program run against it.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use serde_json::Value;

/// Answers one request, and gives its first line and body.
pub(crate) struct Answering {
    pub(crate) url: String,
    thread: JoinHandle<(String, Value)>,
}

impl Answering {
    pub(crate) fn with(answer: &Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = answer.to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let (head, length) = loop {
                let mut chunk = [0; 1024];
                let read = stream.read(&mut chunk).unwrap();
                assert!(read > 0, "the request broke off");
                request.extend_from_slice(&chunk[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some(end) = text.find("\r\n\r\n") {
                    let length = text[..end]
                        .lines()
                        .find_map(|line| {
                            line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                        })
                        .unwrap_or(0);
                    if request.len() >= end + 4 + length {
                        break (text[..end].to_owned(), length);
                    }
                }
            };
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
            let body = serde_json::from_slice(&request[request.len() - length..]).unwrap_or(Value::Null);
            (head.lines().next().unwrap().to_owned(), body)
        });
        Self { url, thread }
    }

    pub(crate) fn asked(self) -> (String, Value) {
        self.thread.join().unwrap()
    }
}

pub(crate) fn groundctl(url: &str, dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_groundctl"))
        .args(arguments)
        .env_clear()
        .current_dir(dir)
        .env("HOME", dir)
        .env("GROUNDCTL_SERVER", url)
        .env("GROUNDCTL_TOKEN", "a-session")
        .output()
        .unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
