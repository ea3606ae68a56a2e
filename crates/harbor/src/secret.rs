//! Whether a secret is still good.

use http::Method;

use crate::client::{Client, Login};
use crate::error::{Error, ErrorKind};
use crate::send::{As, Call};

/// What Harbor thinks of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretCheck {
    /// It is taken.
    Accepted,
    /// It is wrong, or its robot is expired, disabled or deleted: Harbor said so while it knew our own login.
    Refused,
}

impl Client {
    /// Asks with `Basic` on `GET /v2/` whether `login` is taken. The token service cannot be asked: it answers 200 and a token
    /// without rights to any secret.
    ///
    /// A 401 is a verdict only while Harbor's database is there. So after one Harbor must know our own login, and then refuse
    /// `login` once more. Each refused try costs Harbor 1.5 s.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where Harbor does not know our own login either: nothing is known of the secret then.
    pub async fn check_secret(&self, login: &Login) -> Result<SecretCheck, Error> {
        let operation = format!("check the secret of {}", login.username);
        let header = login.header().map_err(|kind| self.error(&operation, kind))?;
        let call = Call::root(&operation, Method::GET, "/v2/".to_owned()).who(As::Other(header));
        match self.send(&call).await {
            Ok(_) => return Ok(SecretCheck::Accepted),
            Err(e) if e.is_unauthorized() => {}
            Err(e) => return Err(e),
        }
        if !self.system_info().await?.is_authenticated() {
            let text = "our own login is not known either".to_owned();
            return Err(self.error(&operation, ErrorKind::Unauthorized(text)));
        }
        match self.send(&call).await {
            Ok(_) => Ok(SecretCheck::Accepted),
            Err(e) if e.is_unauthorized() => Ok(SecretCheck::Refused),
            Err(e) => Err(e),
        }
    }
}
