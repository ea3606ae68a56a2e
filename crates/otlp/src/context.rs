//! W3C Trace Context (`traceparent`, version 00): which trace a request belongs to.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// A new one, at random; never all zeroes, which the standard forbids.
            pub fn generate() -> Self {
                let mut bytes: [u8; $bytes] = rand::random();
                bytes[0] |= u8::from(bytes == [0; $bytes]);
                Self(bytes)
            }

            /// Lower-case hexadecimal, as the header and the logs have it.
            pub fn parse(text: &str) -> Option<Self> {
                let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if text.len() != 2 * $bytes || !text.bytes().all(lower) {
                    return None;
                }
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes).ok()?;
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// The bytes, as spans have them.
            pub fn to_vec(self) -> Vec<u8> {
                self.0.to_vec()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

id!(
    /// A trace.
    TraceId,
    16
);
id!(
    /// A span of a trace.
    SpanId,
    8
);

/// Where in a trace something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether its spans are to be kept.
    pub sampled: bool,
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn root(sampled: bool) -> Self {
        Self { trace: TraceId::generate(), span: SpanId::generate(), sampled }
    }

    /// A new span below this one.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: SpanId::generate(), ..self }
    }

    /// Reads the header; whatever is not of the standard is no context. A later version is read as far as version 00 goes.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let byte = |text: &str| {
            let mut byte = [0];
            let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
            (lower && hex::decode_to_slice(text, &mut byte).is_ok()).then(|| u8::from_be_bytes(byte))
        };
        match byte(version)? {
            0 if parts.next().is_some() => return None,
            0xff => return None,
            _ => {}
        }
        let flags = byte(flags)?;
        Some(Self { trace: TraceId::parse(trace)?, span: SpanId::parse(span)?, sampled: flags & 1 == 1 })
    }

    /// The header for a request that this span makes.
    pub fn header(self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_standards_own_example_is_read() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text).unwrap();
        assert!(context.sampled);
        assert_eq!(context.header(), text);
        assert!(TraceContext::parse(&text.replace("00-4", "cc-4")).is_some(), "a later version");
        assert!(TraceContext::parse(&format!("cc{}-more", &text[2..])).is_some());
    }

    #[test]
    fn what_is_not_of_the_standard_is_no_context() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-more"),
            &good.to_uppercase(),
            &good.replace("00-4", "ff-4"),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace("b7-01", "b7-+1"),
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[ -~]{0,80}") {
            if let Some(context) = TraceContext::parse(&text) {
                prop_assert_eq!(TraceContext::parse(&context.header()), Some(context));
            }
        }
    }
}
