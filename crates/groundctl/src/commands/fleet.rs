//! `apply`, `diff` and `export`: fleet files against Ground Control.

mod carry;
mod observe;
mod seen;
mod show;

use std::path::PathBuf;

use serde_json::json;

use crate::cli::{Apply, Connection, Diff, Export, FleetFiles, Output};
use crate::client::Client;
use crate::commands::read_text;
use crate::error::Error;
use crate::fleet::{self, Change, Current, Kind, Summary, Touched, Wanted};
use crate::render;

/// Makes the fleet what files say.
pub(crate) async fn apply(client: &Client, output: Output, apply: &Apply) -> Result<(), Error> {
    let (current, changes) = planned(client, &apply.files).await?;
    let touched = Touched::of(&changes);
    if apply.dry_run || changes.is_empty() {
        return match output {
            Output::Json => render::json(&report(&touched)),
            Output::Table => {
                show::plan(&touched);
                Ok(())
            }
        };
    }
    let tokens = carry::Tokens::prepare(&changes, apply.token_dir.as_deref())?;
    if output == Output::Table {
        show::plan(&touched);
    }
    let outcome = carry::out(client, output, &current, &changes, &tokens).await;
    if output == Output::Json {
        let mut all = report(&touched);
        all["done"] = json!(outcome.done);
        all["not_done"] = json!(outcome.not_done);
        all["token_files"] = json!(outcome.token_files);
        render::json(&all)?;
    }
    outcome.result
}

/// Shows what `apply` would change; 1 where that is something.
pub(crate) async fn diff(connection: &Connection, output: Output, diff: &Diff) -> Result<u8, Error> {
    let client = Client::logged_in(connection)?;
    let (_, changes) = planned(&client, &diff.files).await?;
    let touched = Touched::of(&changes);
    match output {
        Output::Json => render::json(&report(&touched))?,
        Output::Table => show::difference(&touched),
    }
    Ok(u8::from(!changes.is_empty()))
}

/// Writes the fleet as a file.
pub(crate) async fn export(client: &Client, output: Output, export: &Export) -> Result<(), Error> {
    let mut kinds: Vec<Kind> = export.only.iter().map(|section| Kind::from(*section)).collect();
    if kinds.is_empty() {
        kinds = vec![Kind::Config, Kind::Group, Kind::Satellite];
    }
    let text = fleet::export(&observe::everything(client).await?, &kinds).map_err(Error::Input)?;
    match output {
        Output::Table => {
            print!("{text}");
            Ok(())
        }
        // The same file: JSON is YAML, too.
        Output::Json => {
            let file: serde_json::Value =
                serde_saphyr::from_str(&text).map_err(|error| Error::Input(error.to_string()))?;
            render::json(&file)
        }
    }
}

/// Reads all files, then all of the fleet, and gives it with what leads from the one to the other.
async fn planned(client: &Client, files: &FleetFiles) -> Result<(Current, Vec<Change>), Error> {
    let wanted = wanted(&files.files)?;
    let current = observe::everything(client).await?;
    let wrong = fleet::impossible(&current, &wanted, files.prune);
    if !wrong.is_empty() {
        return Err(Error::Input(format!("nothing was changed:\n  {}", wrong.join("\n  "))));
    }
    let changes = fleet::plan(&current, &wanted, files.prune);
    Ok((current, changes))
}

fn wanted(files: &[PathBuf]) -> Result<Wanted, Error> {
    let texts = files.iter().map(|path| Ok((path.display().to_string(), read_text(path)?)));
    let texts = texts.collect::<Result<Vec<_>, Error>>()?;
    fleet::read(&texts).map_err(|wrong| {
        Error::Input(format!("the files are not valid, and nothing was changed:\n  {}", wrong.join("\n  ")))
    })
}

fn report(touched: &[Touched]) -> serde_json::Value {
    json!({ "changes": touched, "summary": Summary::of(touched) })
}
