//! Byte ranges of the pull side (RFC 9110 section 14) and of the push side (OCI Distribution, "Pushing a blob in
//! chunks").

use std::ops::Range;

/// What a `Range` header asks of content of a known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: no header, or one that RFC 9110 tells a server to ignore (another unit, several ranges).
    Whole,
    /// These bytes, never empty.
    Part(Range<u64>),
    /// None that exist: 416.
    Unsatisfiable,
}

/// Reads a `Range` header against content of `size` bytes.
///
/// Several ranges are answered with everything, which RFC 9110 allows and which no registry client asks for. A range
/// that ends before it begins is refused rather than ignored, as a client that counts wrongly should hear of it.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(header) = header else { return Wanted::Whole };
    let Some((unit, set)) = header.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    match (first, last) {
        ("", suffix) => match number(suffix) {
            Some(0) => Wanted::Unsatisfiable,
            Some(_) if size == 0 => Wanted::Unsatisfiable,
            Some(length) => Wanted::Part(size.saturating_sub(length)..size),
            None => Wanted::Whole,
        },
        (first, "") => match number(first) {
            Some(first) if first < size => Wanted::Part(first..size),
            Some(_) => Wanted::Unsatisfiable,
            None => Wanted::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last && first < size => {
                Wanted::Part(first..last.saturating_add(1).min(size))
            }
            (Some(_), Some(_)) => Wanted::Unsatisfiable,
            _ => Wanted::Whole,
        },
    }
}

/// Digits only: `parse` alone would take a sign. A number beyond 64 bits lies beyond any content.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

/// The `Content-Range` of an upload chunk: `<first>-<last>`, both inclusive; `bytes 0-9/10` of generic HTTP clients
/// is read as well. `Err` when it is neither.
pub(crate) fn chunk(header: &str) -> Result<Range<u64>, ()> {
    let text = header.trim();
    let text = text.strip_prefix("bytes ").or_else(|| text.strip_prefix("bytes=")).unwrap_or(text);
    let text = text.split_once('/').map_or(text, |(range, _)| range);
    let (first, last) = text.split_once('-').ok_or(())?;
    let (first, last) = (number(first).ok_or(())?, number(last).ok_or(())?);
    // An empty chunk cannot be written as an inclusive range; the range after it may begin anywhere.
    match last.checked_add(1) {
        Some(end) if first < end => Ok(first..end),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        let cases = [
            (None, Wanted::Whole),
            (Some("bytes=0-"), Wanted::Part(0..10)),
            (Some("bytes=4-"), Wanted::Part(4..10)),
            (Some("bytes=9-"), Wanted::Part(9..10)),
            (Some("bytes=10-"), Wanted::Unsatisfiable),
            (Some("bytes=0-0"), Wanted::Part(0..1)),
            (Some("bytes=2-4"), Wanted::Part(2..5)),
            (Some("bytes=2-400"), Wanted::Part(2..10)),
            (Some("BYTES=2-4"), Wanted::Part(2..5)),
            (Some("bytes=-3"), Wanted::Part(7..10)),
            (Some("bytes=-30"), Wanted::Part(0..10)),
            (Some("bytes=-0"), Wanted::Unsatisfiable),
            (Some("bytes=5-2"), Wanted::Unsatisfiable),
            (Some("bytes=99999999999999999999999-"), Wanted::Unsatisfiable),
            (Some("bytes=0-99999999999999999999999"), Wanted::Part(0..10)),
            (Some("bytes=0-1,3-4"), Wanted::Whole),
            (Some("bytes="), Wanted::Whole),
            (Some("bytes=a-b"), Wanted::Whole),
            (Some("bytes=+1-2"), Wanted::Whole),
            (Some("bytes=-"), Wanted::Whole),
            (Some("pages=1-2"), Wanted::Whole),
            (Some("1-2"), Wanted::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(wanted(header, 10), expected, "{header:?}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=-1"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn chunks() {
        assert_eq!(chunk("0-9"), Ok(0..10));
        assert_eq!(chunk("bytes 10-19/*"), Ok(10..20));
        assert_eq!(chunk("bytes=10-19"), Ok(10..20));
        for bad in ["", "-", "9-0", "a-b", "0", "-5", "0-18446744073709551615", "0-99999999999999999999999"] {
            assert_eq!(chunk(bad), Err(()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_part_lies_within_the_content(header in "bytes=[0-9]{0,4}-[0-9]{0,4}", size in 0u64..2000) {
            if let Wanted::Part(range) = wanted(Some(&header), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn never_panics(header: String, size: u64) {
            let _ = wanted(Some(&header), size);
            let _ = chunk(&header);
        }
    }
}
