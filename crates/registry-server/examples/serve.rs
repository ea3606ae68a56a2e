//! A registry that anybody may write to, for trying the router out by hand or with other people's tools:
//! `cargo run -p registry-server --example serve -- --dir /tmp/registry --listen 127.0.0.1:5000`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use registry_server::{AnonymousRead, FullAccess, Namespaces, Options, listen, router};
use tokio::net::TcpListener;

/// A registry over a directory.
#[derive(Parser)]
struct Arguments {
    /// Directory of the store; made where there is none.
    #[arg(long)]
    dir: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Refuse every write.
    #[arg(long)]
    read_only: bool,
    /// Registry hosts to answer for under `?ns=`.
    #[arg(long)]
    namespace: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let store = blob_store::Store::open(&arguments.dir, blob_store::Options::default())?;
    let options = Options { namespaces: Namespaces::new(&arguments.namespace), ..Options::default() };
    let router = match arguments.read_only {
        true => router(store, Arc::new(AnonymousRead), options),
        false => router(store, Arc::new(FullAccess), options),
    };
    let listener = TcpListener::bind(arguments.listen).await?;
    let shutdown = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    listen::serve(listener, None, router, listen::Limits::default(), shutdown).await?;
    Ok(())
}
