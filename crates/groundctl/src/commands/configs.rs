//! `configs`.

use fleet_protocol::api::{Config, ConfigAssignment, NewConfig};
use reqwest::Method;

use crate::cli::{Configs, Output};
use crate::client::{Client, Ignored};
use crate::commands::read_document;
use crate::error::Error;
use crate::render;

const PATH: [&str; 2] = ["api", "configs"];

pub(crate) async fn run(client: &Client, output: Output, command: Configs) -> Result<(), Error> {
    match command {
        Configs::List => {
            let configs: Vec<Config> = client.list(&PATH).await?;
            render::show(output, &configs, |configs| {
                let mut table = render::table(["NAME", "UPDATED"]);
                for config in configs {
                    table.add_row([config.config_name.clone(), render::ago(Some(config.updated_at))]);
                }
                table
            })
        }
        // A document is no table: it is JSON either way.
        Configs::Get { name } => {
            let config: Config = client.get(&[PATH[0], PATH[1], &name]).await?;
            match output {
                Output::Json => render::json(&config),
                Output::Table => render::json(&config.config),
            }
        }
        Configs::Create { name, file } => {
            let request =
                NewConfig { config_name: name.clone(), registry: None, config: read_document(&file)? };
            let config: Config = client.make(&PATH, Some(&request), None).await?;
            changed(output, &config, "created")
        }
        Configs::Patch { name, file } => {
            let patch = read_document(&file)?;
            let config: Config = client.send(Method::PATCH, &[PATH[0], PATH[1], &name], Some(&patch)).await?;
            changed(output, &config, "changed")
        }
        Configs::Delete { name } => {
            let _: Ignored = client.send(Method::DELETE, &[PATH[0], PATH[1], &name], None::<&()>).await?;
            render::done(output, &format!("config {name} deleted"))
        }
        Configs::Assign { config, satellite } => {
            let body = ConfigAssignment { satellite: satellite.clone(), config_name: config.clone() };
            let _: Ignored = client.send(Method::POST, &["api", "configs", "satellite"], Some(&body)).await?;
            render::done(output, &format!("satellite {satellite} has config {config}"))
        }
    }
}

fn changed(output: Output, config: &Config, how: &str) -> Result<(), Error> {
    match output {
        Output::Json => render::json(config),
        Output::Table => render::done(output, &format!("config {} {how}", config.config_name)),
    }
}
