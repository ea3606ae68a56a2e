//! Repository names, paths and methods that are wrong, and the ones that only look wrong.

use oci::{Algorithm, Digest};
use reqwest::Method;

use super::content;
use super::manifests::is_there;
use super::session::{Failure, Session, ensure};
use super::{Check, checks};

pub(super) const CHECKS: &[Check] = checks! {
    once "names: many slashes and words of the API" => many_slashes,
    once "names: invalid" => invalid,
    once "names: in pushes" => invalid_push,
    once "paths: no part of the API" => no_route,
    once "methods: that mean nothing" => methods,
    once "namespaces: foreign ns" => foreign_namespace,
};

async fn many_slashes(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    for tail in ["a/b/c/d/e/f", "blobs/uploads", "manifests", "tags/list", "referrers/x", "v2/v2"] {
        let repository = format!("{}/{tail}", session.repository());
        let image = content::image(session, &repository, algorithm).await?;
        image.push_as(session, &repository, "latest").await?;
        is_there(session, &repository, "latest", &image).await?;
        session.get(&format!("/v2/{repository}/tags/list")).send().await?.status(200)?;
    }
    Ok(())
}

async fn invalid(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let long = "a".repeat(256);
    for name in ["A", "a%2fb", "a//b", "a_", "-a", "a..b", "a%20b", "a%00b", "_catalog", long.as_str()] {
        for rest in
            ["manifests/latest".to_owned(), "tags/list".to_owned(), format!("blobs/{}", Digest::sha256(b""))]
        {
            session.get(&format!("/v2/{name}/{rest}")).send().await?.error(400, "NAME_INVALID")?;
        }
    }
    Ok(())
}

async fn invalid_push(session: &Session, _: Algorithm) -> Result<(), Failure> {
    for name in ["A", "a%2f..%2f..%2fetc", "a__.b"] {
        session
            .post(&format!("/v2/{name}/blobs/uploads/"))
            .body("")
            .send()
            .await?
            .error(400, "NAME_INVALID")?;
        session
            .put(&format!("/v2/{name}/manifests/latest"))
            .body("{}")
            .send()
            .await?
            .error(400, "NAME_INVALID")?;
        session.delete(&format!("/v2/{name}/manifests/latest")).send().await?.error(400, "NAME_INVALID")?;
    }
    Ok(())
}

async fn no_route(session: &Session, _: Algorithm) -> Result<(), Failure> {
    for path in ["/v2/a", "/v2/a/tags", "/v2/a/tags/other", "/v2/a/nothing/here"] {
        session.get(path).send().await?.status(404)?;
    }
    Ok(())
}

async fn methods(session: &Session, _: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let digest = Digest::sha256(b"");
    for (method, path) in [
        (Method::POST, "/v2/".to_owned()),
        (Method::DELETE, "/v2/_catalog".to_owned()),
        (Method::PUT, format!("/v2/{repository}/tags/list")),
        (Method::POST, format!("/v2/{repository}/manifests/latest")),
        (Method::PATCH, format!("/v2/{repository}/manifests/latest")),
        (Method::PUT, format!("/v2/{repository}/blobs/{digest}")),
        (Method::PUT, format!("/v2/{repository}/blobs/uploads/")),
        (Method::DELETE, format!("/v2/{repository}/referrers/{digest}")),
        (Method::OPTIONS, format!("/v2/{repository}/manifests/latest")),
    ] {
        let answer = session.request(method, &path).body("").send().await?.error(405, "UNSUPPORTED")?;
        ensure(answer.value("allow").is_some(), || format!("{path}: no Allow"))?;
    }
    Ok(())
}

async fn foreign_namespace(session: &Session, algorithm: Algorithm) -> Result<(), Failure> {
    let repository = session.repository();
    let image = content::image(session, &repository, algorithm).await?;
    image.push_as(session, &repository, "latest").await?;
    let path = format!("/v2/{repository}/manifests/latest?ns=registry.example.invalid");
    session.get(&path).send().await?.error(404, "NAME_UNKNOWN")?;
    session.head(&path).send().await?.status(404)?;
    Ok(())
}
