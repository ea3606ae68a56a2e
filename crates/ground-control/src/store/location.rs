//! Where the database is: a file, or a PostgreSQL server.

use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;

/// A database's place.
#[derive(Debug, Clone)]
pub enum Location {
    /// An SQLite file, created where it is not there.
    Sqlite {
        /// The file.
        file: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://user:password@host:port/database?sslmode=…`; a secret, for the password in it.
        url: SecretString,
    },
}

/// A `DATABASE_URL` that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LocationError {
    /// Neither of the two schemes. The text is not shown, for it may hold a password.
    #[error("the database URL starts with neither sqlite:// nor postgres://")]
    Scheme,
    /// An `sqlite:` URL without a file.
    #[error("the database URL names no file: use sqlite:///path/to/file or sqlite://file")]
    NoFile,
    /// An `sqlite:` URL with a query.
    #[error("the database URL has options after `?`, which SQLite databases do not take here")]
    Options,
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(url: &str) -> Result<Self, LocationError> {
        if let Some(rest) = url.strip_prefix("sqlite:") {
            let file = rest.strip_prefix("//").unwrap_or(rest);
            return match file {
                "" | ":memory:" => Err(LocationError::NoFile),
                file if file.contains('?') => Err(LocationError::Options),
                file => Ok(Self::Sqlite { file: PathBuf::from(file) }),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres { url: SecretString::from(url) });
        }
        Err(LocationError::Scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_are_recognised() {
        for (url, expected) in [("sqlite:///var/lib/gc.db", "/var/lib/gc.db"), ("sqlite://gc.db", "gc.db")] {
            match url.parse::<Location>() {
                Ok(Location::Sqlite { file }) => assert_eq!(file, PathBuf::from(expected)),
                other => panic!("{other:?}"),
            }
        }
        for url in ["postgres://u:p@h/d?sslmode=require", "postgresql://h/d"] {
            assert!(matches!(url.parse(), Ok(Location::Postgres { .. })));
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_showing_it() {
        for (url, expected) in [
            ("mysql://root:hunter2@h/d", LocationError::Scheme),
            ("", LocationError::Scheme),
            ("sqlite://", LocationError::NoFile),
            ("sqlite::memory:", LocationError::NoFile),
            ("sqlite://a.db?mode=ro", LocationError::Options),
        ] {
            let error = url.parse::<Location>().unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let location: Location = "postgres://u:hunter2@h/d".parse().unwrap();
        assert!(!format!("{location:?}").contains("hunter2"));
    }
}
