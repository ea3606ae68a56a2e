//! Copies one image from a registry into a store and tells what it cost:
//! `cargo run --release -p transfer --example replicate -- http://127.0.0.1:5000/library/app:1.0 DIR`.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::sync::Arc;

use blob_store::Store;
use oci::{ImageReference, Reference};
use registry_client::{Client, ClientOptions, Endpoint};
use transfer::{CopyRequest, Engine, EngineOptions, LocalDestination, RegistrySource, Source};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments = std::env::args().skip(1);
    let (Some(image), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: replicate http(s)://HOST/REPOSITORY:TAG DIR".into());
    };
    let image: ImageReference = image.parse()?;
    let address = format!("{}://{}", image.scheme.as_deref().unwrap_or("https"), image.host);
    let client = Client::new(address.parse::<Endpoint>()?, ClientOptions::default())?;
    let store = Store::open(&directory, blob_store::Options::default())?;
    let engine = Engine::new(Arc::new(LocalDestination::new(store)), EngineOptions::default());
    let source = RegistrySource::new(&client, image.repository.clone());
    let digest = match image.reference() {
        Some(Reference::Digest(digest)) => digest,
        Some(Reference::Tag(tag)) => source.resolve(&tag).await?,
        None => return Err("the image needs a tag or a digest".into()),
    };
    let mut request = CopyRequest::new(Arc::new(source), image.repository, digest);
    request.tags = image.tag.into_iter().collect();
    let outcome = engine.copy(&request).await?;
    println!("{outcome:#?}");
    Ok(())
}
