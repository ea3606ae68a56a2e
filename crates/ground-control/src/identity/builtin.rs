//! The built-in authority.

/// The built-in authority.
#[derive(Debug)]
pub struct Authority {}
