//! The client against servers that tell the truth, and against some that do not.

mod answers;
mod hostile;
mod push_and_lists;
mod setup;
mod tls;
mod tokens;
