//! `users`.

use fleet_protocol::api::{ChangePassword, NewUser, SetPassword, SetRole, User};
use reqwest::Method;
use secrecy::ExposeSecret;

use crate::cli::{Output, Users};
use crate::client::{Client, Ignored};
use crate::commands::read_secret;
use crate::error::Error;
use crate::render;

const PATH: [&str; 2] = ["api", "users"];

pub(crate) async fn run(client: &Client, output: Output, command: Users) -> Result<(), Error> {
    match command {
        Users::List => {
            let users: Vec<User> = client.list(&PATH).await?;
            render::show(output, &users, |users| {
                let mut table = render::table(["NAME", "ROLE", "CREATED"]);
                for user in users {
                    let created = render::ago(Some(user.created_at));
                    table.add_row([user.username.as_str(), user.role.as_str(), &created]);
                }
                table
            })
        }
        Users::Get { name } => {
            let user: User = client.get(&[PATH[0], PATH[1], &name]).await?;
            render::show(output, &user, |user| {
                render::record([
                    ("Name", user.username.clone()),
                    ("Role", user.role.as_str().to_owned()),
                    ("Created", user.created_at.to_string()),
                ])
            })
        }
        Users::Create { name, role, password } => {
            let password = read_secret(password.password_file.as_deref(), &format!("Password of {name}: "))?;
            let request = NewUser { username: name, password: password.expose_secret().to_owned(), role };
            let user: User = client.make(&PATH, Some(&request), None).await?;
            changed(output, &user, "created")
        }
        Users::Role { name, role } => {
            let request = SetRole { role };
            let user: User = client.send(Method::PATCH, &[PATH[0], PATH[1], &name], Some(&request)).await?;
            changed(output, &user, "changed")
        }
        Users::Password { name: Some(name), password, .. } => {
            let password =
                read_secret(password.password_file.as_deref(), &format!("New password of {name}: "))?;
            let request = SetPassword { new_password: password.expose_secret().to_owned() };
            let path = [PATH[0], PATH[1], &name, "password"];
            let _: Ignored = client.send(Method::PATCH, &path, Some(&request)).await?;
            render::done(output, &format!("password of {name} set: its sessions and API tokens have ended"))
        }
        Users::Password { name: None, password, current_password_file } => {
            let current = read_secret(current_password_file.as_deref(), "Present password: ")?;
            let password = read_secret(password.password_file.as_deref(), "New password: ")?;
            let request = ChangePassword {
                current_password: current.expose_secret().to_owned(),
                new_password: password.expose_secret().to_owned(),
            };
            let path = [PATH[0], PATH[1], "password"];
            let _: Ignored = client.send(Method::PATCH, &path, Some(&request)).await?;
            render::done(output, "password changed: your sessions have ended, log in again")
        }
        Users::Delete { name } => {
            let _: Ignored = client.send(Method::DELETE, &[PATH[0], PATH[1], &name], None::<&()>).await?;
            render::done(output, &format!("user {name} deleted"))
        }
    }
}

fn changed(output: Output, user: &User, how: &str) -> Result<(), Error> {
    match output {
        Output::Json => render::json(user),
        Output::Table => {
            render::done(output, &format!("user {} ({}) {how}", user.username, user.role.as_str()))
        }
    }
}
