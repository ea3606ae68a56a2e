//! Writing PEM (RFC 7468); reading is `rustls::pki_types`' own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// RFC 7468, section 2: lines of 64 characters.
const LINE: usize = 64;

/// One PEM block, with the label that RFC 7468 gives its contents.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(LINE) {
        // Base64 is ASCII: every byte is a character of its own.
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
