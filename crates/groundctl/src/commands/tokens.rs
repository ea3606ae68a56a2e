//! `tokens`.

use fleet_protocol::api::{ApiToken, CreatedApiToken, NewApiToken, Scope};
use jiff::Timestamp;
use reqwest::Method;

use crate::cli::{Output, Tokens};
use crate::client::{Client, Ignored};
use crate::error::Error;
use crate::private_file::PrivateFile;
use crate::render;

const PATH: [&str; 2] = ["api", "tokens"];

pub(crate) async fn run(client: &Client, output: Output, command: Tokens) -> Result<(), Error> {
    match command {
        Tokens::List => {
            let tokens: Vec<ApiToken> = client.list(&PATH).await?;
            render::show(output, &tokens, |tokens| {
                let mut table = render::table(["ID", "OWNER", "NAME", "SCOPES", "ENDS", "LAST USED"]);
                for token in tokens {
                    let ended = token.expires_at <= Timestamp::now();
                    table.add_row([
                        token.id.clone(),
                        token.owner.clone(),
                        token.name.clone(),
                        words(&token.scopes),
                        format!("{}{}", token.expires_at, if ended { " (ended)" } else { "" }),
                        render::ago(token.last_used_at),
                    ]);
                }
                table
            })
        }
        Tokens::Create { name, scopes, expires, token_file } => {
            // What cannot be kept is not made.
            let file = token_file.as_deref().map(PrivateFile::prepare).transpose()?;
            let request = NewApiToken { name, scopes, expires_at: expires };
            let mut made: CreatedApiToken = client.make(&PATH, Some(&request), None).await?;
            let Some(file) = file else {
                return match output {
                    Output::Json => render::json(&made),
                    Output::Table => render::done(
                        output,
                        &format!(
                            "{}\n{} ends {}; it is shown this once",
                            made.token, made.details.id, made.details.expires_at
                        ),
                    ),
                };
            };
            let token = std::mem::take(&mut made.token);
            file.keep(format!("{token}\n").as_bytes())?;
            match output {
                Output::Json => render::json(&made.details),
                Output::Table => render::done(
                    output,
                    &format!("API token {} ({}) made", made.details.name, made.details.id),
                ),
            }
        }
        Tokens::Delete { id } => {
            let _: Ignored = client.send(Method::DELETE, &[PATH[0], PATH[1], &id], None::<&()>).await?;
            render::done(output, &format!("API token {id} deleted"))
        }
    }
}

fn words(scopes: &[Scope]) -> String {
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    words.join(", ")
}
