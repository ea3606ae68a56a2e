//! A Ground Control that answers by a list: one answer for each request, in their order.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What is answered: a status, further header lines, a body.
pub(crate) type Answer = (u16, &'static str, Value);

/// The connection ends where the answer would begin.
pub(crate) const LOST: Answer = (0, "", Value::Null);

/// Answers requests by a list, and keeps what was asked.
pub(crate) struct Scripted {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Scripted {
    pub(crate) fn with(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, mut answers) = (Arc::clone(&asked), VecDeque::from(answers));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let request = read(&mut stream);
                kept.lock().unwrap().push(request);
                let (status, headers, body) = answers.pop_front().unwrap_or((500, "", Value::Null));
                if status == LOST.0 {
                    continue;
                }
                let body = body.to_string();
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        });
        Self { url, asked }
    }

    /// The heads and bodies of all requests so far.
    pub(crate) fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &mut TcpStream) -> (String, Value) {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "the request broke off");
        request.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some(end) = text.find("\r\n\r\n") else { continue };
        let head = text[..end].to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        if request.len() >= end + 4 + length {
            let body = serde_json::from_slice(&request[end + 4..]).unwrap_or(Value::Null);
            return (text[..end].to_owned(), body);
        }
    }
}
