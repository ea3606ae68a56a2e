//! What documents are built from.

use ground_control_domain::StoreResult;
use ground_control_domain::document::{DocumentKey, DocumentKind};
use ground_control_domain::resolution;
use ground_control_domain::store::{DocumentSource, GroupSource, SatelliteSource};

use super::{During, following, groups, read_json};
use crate::dialect::Connection;

/// What `document` is built from, as the records stand in this snapshot.
pub(super) async fn read_source(
    connection: &mut Connection,
    document: &DocumentKey,
    operation: &'static str,
) -> StoreResult<DocumentSource> {
    let name = document.name.as_str();
    match document.kind {
        DocumentKind::Config => {
            let document = sqlx::query_scalar!("SELECT document FROM configs WHERE name = $1", name)
                .fetch_optional(connection)
                .await
                .during(operation)?;
            document.map_or(Ok(DocumentSource::Gone), |text| {
                Ok(DocumentSource::Config(read_json(operation, &text)?))
            })
        }
        DocumentKind::Group => {
            let id = sqlx::query_scalar!("SELECT id FROM artifact_groups WHERE name = $1", name)
                .fetch_optional(&mut *connection)
                .await
                .during(operation)?;
            match id {
                None => Ok(DocumentSource::Gone),
                Some(id) => {
                    let given = groups::artifacts(connection, &id, operation).await?;
                    let known = following::known(connection, &id, operation).await?;
                    let (artifacts, unseen) =
                        (resolution::apply(&given, &known), resolution::is_unseen(&given, &known));
                    Ok(DocumentSource::Group(GroupSource { artifacts, unseen }))
                }
            }
        }
        DocumentKind::Satellite => satellite_source(connection, name, operation).await,
    }
}

async fn satellite_source(
    connection: &mut Connection,
    name: &str,
    operation: &'static str,
) -> StoreResult<DocumentSource> {
    let row = sqlx::query!(
        r#"SELECT s.id AS "id!", c.name AS "config!",
                  EXISTS (SELECT 1 FROM published p WHERE p.document = 'config/' || c.name AND p.digest <> '')
                      AS "config_published!: bool"
           FROM satellites s JOIN configs c ON c.id = s.config_id
           WHERE s.name = $1 AND s.state <> 'deleted'"#,
        name
    )
    .fetch_optional(&mut *connection)
    .await
    .during(operation)?;
    let Some(row) = row else { return Ok(DocumentSource::Gone) };
    let mut unpublished = Vec::new();
    if !row.config_published {
        unpublished.push(DocumentKey::config(&row.config));
    }
    let rows = sqlx::query!(
        r#"SELECT g.name AS "name!",
                  EXISTS (SELECT 1 FROM published p WHERE p.document = 'group/' || g.name AND p.digest <> '')
                      AS "published!: bool"
           FROM group_members m JOIN artifact_groups g ON g.id = m.group_id
           WHERE m.satellite_id = $1 ORDER BY g.name"#,
        row.id
    )
    .fetch_all(connection)
    .await
    .during(operation)?;
    let mut groups = Vec::with_capacity(rows.len());
    for group in rows {
        if !group.published {
            unpublished.push(DocumentKey::group(&group.name));
        }
        groups.push(group.name);
    }
    groups.sort();
    Ok(DocumentSource::Satellite(SatelliteSource { groups, config: row.config, unpublished }))
}
