//! Harbor as the central registry.
//!
//! Documents go there like anywhere else ([`HarborRegistry`]). Accounts are Harbor's robots, and no request ever waits for
//! Harbor: the [`Keeper`] makes reality match what the database says, one step after the other
//! ([`crate::domain::harbor::next`]), and the [`HarborIssuer`] hands out what is ready. What goes wrong on the way, or in
//! the middle of it, is found at the next look.

mod comparison;
mod documents;
mod gate;
mod issuer;
mod keeper;
mod login;
mod site;

pub use comparison::{Compared, Comparison, ComparisonError};
pub use documents::HarborRegistry;
pub use gate::SiteGate;
pub use issuer::HarborIssuer;
pub use keeper::{Keeper, KeeperHandle, KeeperOptions};
pub use login::{Login, LoginError};
