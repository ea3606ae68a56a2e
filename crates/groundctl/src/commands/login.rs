//! `login` and `logout`.

use fleet_protocol::api::{LoginAnswer, LoginRequest};
use reqwest::Method;
use secrecy::ExposeSecret;

use crate::cli::{Connection, Login, Output};
use crate::client::{Client, Ignored};
use crate::commands::read_secret;
use crate::error::Error;
use crate::render;
use crate::session::{self, Session};

pub(crate) async fn login(connection: &Connection, output: Output, login: &Login) -> Result<(), Error> {
    let client = Client::anonymous(connection)?;
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
