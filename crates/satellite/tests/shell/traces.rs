//! Requests to Ground Control as spans of a trace, told to both sides.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use crate::harness::{PATIENCE, Site};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Answers every request with this status, and gives each as it came.
fn listener(status: &'static str) -> (String, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((head, _)) = text.split_once("\r\n\r\n") {
                    let length = head.lines().find_map(|line| {
                        let (name, value) = line.split_once(':')?;
                        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
                    });
                    let wanted = head.len() + 4 + length.transpose().unwrap().unwrap_or(0);
                    if request.len() >= wanted {
                        break;
                    }
                }
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => request.extend_from_slice(&buffer[..n]),
                }
            }
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (address, requests)
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[test]
fn what_is_asked_is_a_span_that_both_sides_know() {
    let (ground_control, asked) = listener("503 Service Unavailable");
    let (collector, spans) = listener("200 OK");
    let site = Site::new()
        .set("GROUND_CONTROL_URL", &ground_control)
        .set("TOKEN", TOKEN)
        .set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector);
    let _running = site.start();
    let request = asked.recv_timeout(PATIENCE).unwrap();
    let request = String::from_utf8(request).unwrap();
    let parent = header(&request, "traceparent").unwrap();
    let parts: Vec<&str> = parent.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "00", "01"), "{parent}");
    assert_eq!(header(&request, "x-request-id"), Some(parts[1]), "one name for logs and traces");
    let sent = spans.recv_timeout(PATIENCE).unwrap();
    assert!(sent.starts_with(b"POST /v1/traces "));
    let contains = |needle: &[u8]| sent.windows(needle.len()).any(|window| window == needle);
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    };
    assert!(contains(&bytes(parts[1])) && contains(&bytes(parts[2])), "the span that was told");
    assert!(!contains(TOKEN.as_bytes()), "no secret");
}

#[test]
fn without_a_collector_only_the_name_is_told() {
    let (ground_control, asked) = listener("503 Service Unavailable");
    let site = Site::new().set("GROUND_CONTROL_URL", &ground_control).set("TOKEN", TOKEN);
    let _running = site.start();
    let request = String::from_utf8(asked.recv_timeout(PATIENCE).unwrap()).unwrap();
    assert_eq!(header(&request, "traceparent"), None);
    assert_eq!(header(&request, "x-request-id").map(str::len), Some(32));
}

#[test]
fn spans_go_nowhere_in_plain_text() {
    let ended = Site::new().set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://192.0.2.1:4318").run(&[]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{ended:?}");
}
