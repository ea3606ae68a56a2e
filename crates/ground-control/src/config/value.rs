//! Parsers of single values, each saying what it wanted.

use std::convert::Infallible;
use std::time::Duration;

use secrecy::SecretString;

/// What Go's `strconv.ParseBool` takes, since deployed installations were written for it.
pub(crate) fn boolean(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false"),
    }
}

/// A Go duration above zero (`90s`, `1h30m`).
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = fleet_protocol::schedule::parse_go_duration(text)
        .map_err(|_| "not a duration, as 90s, 5m or 1h30m".to_owned())?;
    if duration.is_zero() {
        return Err("a duration above zero is needed".to_owned());
    }
    Ok(duration)
}

/// One of the five levels, in any case; `warning` is `warn`.
pub(crate) fn log_level(text: &str) -> Result<tracing::Level, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(tracing::Level::ERROR),
        "warn" | "warning" => Ok(tracing::Level::WARN),
        "info" => Ok(tracing::Level::INFO),
        "debug" => Ok(tracing::Level::DEBUG),
        "trace" => Ok(tracing::Level::TRACE),
        _ => Err("not one of error, warn, info, debug, trace"),
    }
}

/// Any text, kept out of debug output from the first moment.
pub(crate) fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go() {
        assert_eq!(boolean("T"), Ok(true));
        assert_eq!(boolean("0"), Ok(false));
        assert!(boolean("yes").is_err());
    }

    #[test]
    fn durations_are_above_zero() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(duration("0s").is_err());
        assert!(duration("5").is_err());
    }
}
