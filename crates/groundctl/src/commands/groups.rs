//! `groups`.

mod following;
mod revisions;

use fleet_protocol::GroupState;
use fleet_protocol::api::{Group, GroupAccounts, GroupDetail, GroupMember, GroupSelector, Satellite};
use reqwest::Method;
use serde_json::Value;

use crate::cli::{Groups, Output};
use crate::client::{Client, Ignored};
use crate::commands::read_document;
use crate::commands::satellites::accounts;
use crate::error::Error;
use crate::render;

const PATH: [&str; 2] = ["api", "groups"];

pub(crate) async fn run(client: &Client, output: Output, command: Groups) -> Result<(), Error> {
    match command {
        Groups::List => {
            let groups: Vec<Group> = client.list(&PATH).await?;
            render::show(output, &groups, |groups| {
                let mut table = render::table(["NAME", "ARTIFACTS", "PROJECTS", "UPDATED"]);
                for group in groups {
                    table.add_row([
                        group.group_name.clone(),
                        group.artifacts.len().to_string(),
                        group.projects.join(","),
                        render::ago(Some(group.updated_at)),
                    ]);
                }
                table
            })
        }
        Groups::Get { name } => {
            let group: GroupDetail = client.get(&[PATH[0], PATH[1], &name]).await?;
            render::show(output, &group, following::table)
        }
        Groups::Apply { file } => {
            let state = group_state(read_document(&file)?).map_err(|error| match error {
                Error::Input(reason) => Error::Input(format!("{}: {reason}", file.display())),
                other => other,
            })?;
            let group: Group = client.make(&["api", "groups", "sync"], Some(&state), None).await?;
            render::show(output, &group, artifacts)
        }
        Groups::Delete { name } => {
            let _: Ignored = client.send(Method::DELETE, &[PATH[0], PATH[1], &name], None::<&()>).await?;
            render::done(output, &format!("group {name} deleted"))
        }
        Groups::Revisions { name, revision: None } => revisions::list(client, output, &name).await,
        Groups::Revisions { name, revision: Some(number) } => {
            revisions::show(client, output, &name, number).await
        }
        Groups::Restore { name, revision } => revisions::restore(client, output, &name, revision).await,
        Groups::Select { group, selector, none: _ } => {
            let path = [PATH[0], PATH[1], &group, "selector"];
            let group: Group = client.send(Method::PUT, &path, Some(&GroupSelector { selector })).await?;
            match (output, &group.selector) {
                (Output::Json, _) => render::json(&group),
                (_, Some(selector)) => {
                    render::done(output, &format!("group {} chooses {selector}", group.group_name))
                }
                (_, None) => {
                    render::done(output, &format!("group {} has satellites by name alone", group.group_name))
                }
            }
        }
        Groups::Replication { group, file, remove } => {
            following::replication(client, output, &group, file, remove).await
        }
        Groups::Accounts { name } => {
            let accounts: GroupAccounts = client.get(&[PATH[0], PATH[1], &name, "accounts"]).await?;
            render::show(output, &accounts, accounts::of_group)
        }
        Groups::Satellites { group } => {
            let satellites: Vec<Satellite> = client.list(&[PATH[0], PATH[1], &group, "satellites"]).await?;
            render::show(output, &satellites, |satellites| {
                let mut table = render::table(["NAME", "STATE", "LAST SEEN"]);
                for satellite in satellites {
                    table.add_row([
                        satellite.name.clone(),
                        satellite.state.as_str().to_owned(),
                        render::ago(satellite.last_seen),
                    ]);
                }
                table
            })
        }
        Groups::Add { group, satellite } => {
            member(client, Method::POST, &group, &satellite).await?;
            render::done(output, &format!("satellite {satellite} is in group {group}"))
        }
        Groups::Remove { group, satellite } => {
            member(client, Method::DELETE, &group, &satellite).await?;
            render::done(output, &format!("satellite {satellite} is not in group {group}"))
        }
    }
}

async fn member(client: &Client, method: Method, group: &str, satellite: &str) -> Result<(), Error> {
    let body = GroupMember { satellite: satellite.to_owned(), group: group.to_owned() };
    client.send::<Ignored>(method, &["api", "groups", "satellite"], Some(&body)).await.map(|_| ())
}

fn group_state(document: Value) -> Result<GroupState, Error> {
    // YAML reads an unquoted 1.10 as the number 1.1: another tag than the one that was meant.
    let artifacts = document["artifacts"].as_array().map_or(&[][..], Vec::as_slice);
    for artifact in artifacts {
        let tags = match &artifact["tag"] {
            Value::Array(tags) => tags.as_slice(),
            one => std::slice::from_ref(one),
        };
        if let Some(number) = tags.iter().find(|tag| tag.is_number()) {
            return Err(Error::Input(format!(
                "tag {number} of {} reads as a number: put it in quotes",
                artifact["repository"]
            )));
        }
    }
    let state: GroupState =
        serde_json::from_value(document).map_err(|error| Error::Input(error.to_string()))?;
    if state.group.is_empty() {
        return Err(Error::Input("`group` is missing: the name of the group".to_owned()));
    }
    Ok(state)
}

fn artifacts(group: &Group) -> comfy_table::Table {
    let mut table = render::table(["REPOSITORY", "WANTED", "DIGEST"]);
    for artifact in &group.artifacts {
        let digest = artifact.digest.map(|digest| digest.to_string()).unwrap_or_default();
        let digest = if artifact.deleted { format!("{digest} (deleted)") } else { digest };
        table.add_row([
            artifact.repository.to_string(),
            following::wanted(artifact),
            digest.trim().to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<GroupState, Error> {
        group_state(serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn yaml_and_json() {
        let yaml = "group: us-east\nartifacts:\n- repository: library/nginx\n  tag: [latest, \"1.10\"]\n- repository: a/b\n  tag: stable\n";
        let state = read(yaml).unwrap();
        assert_eq!(state.artifacts[0].tags.len(), 2);
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(read(&json).unwrap(), state);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (yaml, words) in [
            ("group: g\nartifacts:\n- repository: a\n  tag: 1.10\n", "quotes"),
            ("artifacts: []\n", "`group` is missing"),
            ("group: g\nartifacts:\n- repository: A\n  tag: t\n", "no repository name"),
        ] {
            let error = read(yaml).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
