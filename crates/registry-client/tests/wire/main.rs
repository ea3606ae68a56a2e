//! The client against servers that tell the truth, and against some that do not.

#![allow(clippy::unwrap_used, reason = "what the helpers of tests cannot do ends the test")]

mod answers;
mod hostile;
mod push_and_lists;
mod setup;
mod tls;
mod tokens;
