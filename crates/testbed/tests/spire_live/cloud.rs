//! SPIRE's server, the agent beside Ground Control, and Ground Control with its identity from there.

use std::path::PathBuf;

use serde_json::json;
use tempfile::TempDir;
use testbed::admin::Registered;
use testbed::link::Link;
use testbed::process::wait_for;
use testbed::satellite::Site;
use testbed::spire::{Agent, Attestation, Server, ServerOptions, own_selector};
use testbed::world::World;
use testbed::{files, ground_control};

use crate::support::{DOMAIN, LIMIT};

/// How Ground Control reaches SPIRE's server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admin {
    Socket,
    /// With its own SVID.
    Tcp,
}

pub(crate) struct Cloud {
    pub(crate) world: World,
    pub(crate) link: Link,
    pub(crate) agent: Agent,
    pub(crate) server: Server,
    dir: TempDir,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        Self::start_with(ServerOptions::default(), Admin::Socket).await
    }

    /// Satellites reach Ground Control and its registry over the link.
    pub(crate) async fn start_with(options: ServerOptions, admin: Admin) -> Self {
        let dir = files::scratch("spire").unwrap();
        let server = Server::start(&dir.path().join("server"), options).await.unwrap();
        let of_agent = format!("spiffe://{DOMAIN}/gc/agent");
        server.entry(&of_agent, &format!("spiffe://{DOMAIN}/gc/main")).await.unwrap();
        let attestation = Attestation::JoinToken(server.token(&of_agent).await.unwrap());
        let bundle = server.bundle().await.unwrap();
        let folder = dir.path().join("gc-agent");
        let mut agent = Agent::start(&folder, DOMAIN, server.port(), &bundle, &attestation).unwrap();
        agent.healthy().await.unwrap();
        // It asks its server for entries every five seconds.
        wait_for("Ground Control's SVID", LIMIT, async || {
            agent.call(&["api", "fetch", "x509"]).await.ok().map(drop)
        })
        .await
        .unwrap();
        let mut environment = vec![
            ("SPIFFE_PROVIDER".to_owned(), "sidecar".to_owned()),
            ("SPIFFE_ENDPOINT_SOCKET".to_owned(), format!("unix://{}", agent.socket().display())),
            ("SPIRE_SERVER_ADDRESS".to_owned(), "127.0.0.1".to_owned()),
            ("SPIRE_SERVER_PORT".to_owned(), server.port().to_string()),
            // Who is not registered is refused: what comes in here was let in by a registration.
            ("AUTO_REGISTER".to_owned(), "deny".to_owned()),
        ];
        if admin == Admin::Socket {
            environment.push(("SPIRE_SERVER_SOCKET".to_owned(), server.socket().display().to_string()));
        }
        let options = ground_control::Options { spiffe: true, environment, ..Default::default() };
        let mut link = None;
        let world = World::start_prepared(options, async |place| {
            let wire = Link::start(&place.spiffe_address()).await?;
            place.set_public_registry_url(wire.url());
            link = Some(wire);
            Ok(())
        })
        .await
        .unwrap();
        world.admin.sync_group("one", &[]).await.unwrap();
        Self { world, link: link.unwrap(), agent, server, dir }
    }

    /// A folder of this cloud.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Registers a satellite that attests with a join token, in the group `one`.
    pub(crate) async fn register(&self, name: &str) -> Registered {
        let body = json!({"satellite_name": name, "region": "us-east", "selectors": [own_selector()],
                          "attestation_method": "join_token", "groups": ["one"]});
        self.world.admin.register_with(&body).await.unwrap()
    }

    /// An agent of the edge, which is not waited for.
    pub(crate) fn edge_agent(&self, name: &str, bundle: &str, attestation: &Attestation) -> Agent {
        Agent::start(&self.folder(name), DOMAIN, self.server.port(), bundle, attestation).unwrap()
    }

    /// A registered satellite with an agent that has attested; it is not started.
    pub(crate) async fn edge(&self, name: &str) -> (Agent, Site) {
        let registered = self.register(name).await;
        let attestation = Attestation::JoinToken(registered.join_token.clone());
        let mut agent = self.edge_agent(&format!("{name}-agent"), &registered.trust_bundle, &attestation);
        agent.healthy().await.unwrap();
        let site = self.site(name, &agent);
        (agent, site)
    }

    /// A satellite with the Workload API of an agent, over the link.
    pub(crate) fn site(&self, name: &str, agent: &Agent) -> Site {
        let mut site = self.world.site_with_workload_api(name, &agent.socket(), &[]).unwrap();
        site.set_ground_control_url(self.link.url());
        site
    }

    /// A client with an SVID that SPIRE's server issues to whoever is its administrator.
    pub(crate) async fn minted(&self, path: &str, ttl: &str) -> reqwest::Client {
        let client = self.minted_clients(path, ttl).await;
        client()
    }

    /// As many clients with the same SVID as are asked for, each with connections of its own.
    pub(crate) async fn minted_clients(&self, path: &str, ttl: &str) -> impl Fn() -> reqwest::Client + use<> {
        let dir = self.folder(&format!("minted-{:x}", rand::random::<u32>()));
        self.server.mint(&format!("spiffe://{DOMAIN}{path}"), ttl, &dir).await.unwrap();
        let read = |name: &str| String::from_utf8(files::read(&dir.join(name)).unwrap()).unwrap();
        let (svid, key, bundle) = (read("svid.pem"), read("key.pem"), self.server.bundle().await.unwrap());
        move || crate::support::svid_client(&svid, &key, &bundle)
    }

    /// The route by which satellites register.
    pub(crate) fn ztr(&self) -> String {
        format!("{}/satellites/spiffe-ztr", self.world.place.spiffe_url())
    }
}
