//! `login`, `logout` and `whoami`.

use fleet_protocol::api::{IdentityProvider, LoginAnswer, LoginCode, LoginRequest, OwnSession, SignedIn};
use reqwest::Method;
use secrecy::ExposeSecret;
use url::Url;

use crate::browser;
use crate::cli::{Connection, Login, Output};
use crate::client::{Client, Ignored};
use crate::commands::read_secret;
use crate::error::Error;
use crate::loopback::Loopback;
use crate::render;
use crate::session::{self, Session};

pub(crate) async fn login(connection: &Connection, output: Output, login: &Login) -> Result<(), Error> {
    let client = Client::anonymous(connection)?;
    if login.oidc {
        return in_a_browser(&client, output, login.no_browser).await;
    }
    let question = format!("Password of {} at {}: ", login.username, client.server_text());
    let password = read_secret(login.password_file.as_deref(), &question)?;
    let request =
        LoginRequest { username: login.username.clone(), password: password.expose_secret().to_owned() };
    let answer: LoginAnswer = client.send(Method::POST, &["login"], Some(&request)).await?;
    let session =
        Session { server: client.server_text(), token: answer.token.into(), expires_at: answer.expires_at };
    session::save(&session)?;
    render::done(
        output,
        &format!("logged in at {} as {} until {}", session.server, login.username, session.expires_at),
    )
}

/// The login of a person whom the identity provider knows: their browser goes there, and comes back to this process.
async fn in_a_browser(client: &Client, output: Output, no_browser: bool) -> Result<(), Error> {
    // Browsers know the server under its public name, to which its cookies belong.
    let provider: IdentityProvider = client.get(&["auth", "oidc"]).await?;
    let mut url = login_url(&provider.login_url)?;
    let waiting = Loopback::listen().await?;
    url.query_pairs_mut().extend_pairs(waiting.parameters());
    if no_browser || !browser::open(&url) {
        eprintln!("Open this URL in a browser on this machine:\n\n  {url}\n");
    } else {
        eprintln!("Log in in the browser that opened; if none did: {url}");
    }
    let code = waiting.code().await?;
    let exchange = LoginCode { code, code_verifier: waiting.verifier().clone() };
    let answer: SignedIn = client.send(Method::POST, &["auth", "oidc", "token"], Some(&exchange)).await?;
    let session =
        Session { server: client.server_text(), token: answer.token, expires_at: answer.expires_at };
    session::save(&session)?;
    let (username, role) = (answer.username, answer.role.as_str());
    render::done(
        output,
        &format!("logged in at {} as {username} ({role}) until {}", session.server, session.expires_at),
    )
}

fn login_url(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| Error::Input(format!("the server names {text:?} for logins, which is no URL")))
}

pub(crate) async fn logout(connection: &Connection, output: Output) -> Result<(), Error> {
    match Client::logged_in(connection) {
        Ok(client) => match client.send::<Ignored>(Method::POST, &["api", "logout"], None::<&()>).await {
            Ok(_) | Err(Error::NotLoggedIn { .. }) => {}
            Err(error) => return Err(error),
        },
        Err(Error::NotLoggedIn { .. }) => {}
        Err(error) => return Err(error),
    }
    session::remove()?;
    render::done(output, "logged out")
}

pub(crate) async fn whoami(client: &Client, output: Output) -> Result<(), Error> {
    let session: OwnSession = client.get(&["auth", "session"]).await?;
    render::show(output, &session, |session| {
        render::record([
            ("Ground Control", client.server_text()),
            ("Name", session.username.clone()),
            ("Role", session.role.as_str().to_owned()),
        ])
    })
}
