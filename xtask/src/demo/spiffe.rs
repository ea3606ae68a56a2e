//! What the demo shows of identities: who the satellite is, and that it uses no door but the one for SVIDs.

use std::collections::BTreeSet;
use std::time::Duration;

use identity::tls::{self, Expected};
use identity::{SpiffeId, TrustBundle};
use testbed::admin::Admin;
use testbed::process::wait_for;
use testbed::satellite::Site;
use tokio::task::AbortHandle;

use crate::error::{Error, Result};
use crate::progress::Step;

/// How often connections are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Shows the identity as the satellite knows it and as Ground Control does.
pub(crate) async fn show(site: &Site, admin: &Admin, name: &str, spiffe_id: &str) -> Result<()> {
    let step = Step::begin("its identity, as `satellite status` says");
    let known = wait_for("the identity in the satellite's status", Duration::from_secs(30), async || {
        let status = site.status().await.ok()?;
        status["satellite"]["identity"]["spiffe_id"].as_str().map(str::to_owned)
    })
    .await?;
    same(&known, spiffe_id)?;
    step.done(known);
    let step = Step::begin("and as Ground Control does, after a heartbeat");
    let seen = wait_for("a heartbeat of the satellite", Duration::from_secs(30), async || {
        let satellite = admin.satellite(name).await.ok()?;
        (satellite["state"] == "online").then_some(satellite)
    })
    .await?;
    let known = seen["spiffe_id"].as_str().unwrap_or_default();
    same(known, spiffe_id)?;
    step.done(format!("{known} is online"));
    Ok(())
}

/// Waits for a heartbeat after the ones that Ground Control has already.
pub(crate) async fn heard_again(admin: &Admin, name: &str) -> Result<()> {
    let last = async || admin.status(name).await.ok().flatten().map(|status| status["received_at"].clone());
    let before = last().await;
    wait_for("a heartbeat of the satellite", Duration::from_secs(60), async || {
        let now = last().await;
        (now.is_some() && now != before).then_some(())
    })
    .await?;
    Ok(())
}

fn same(found: &str, wanted: &str) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::Other(format!("the identity is `{found}`, `{wanted}` was registered")))
}

/// Where Ground Control listens, as `host:port` each.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    /// For whoever has an SVID.
    pub(crate) spiffe: String,
    /// For people's clients.
    pub(crate) web: String,
}

/// Looks at the connections of a process for as long as it lives.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: std::sync::Arc<std::sync::Mutex<Option<BTreeSet<Connection>>>>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins to look.
    pub(crate) fn begin(pid: u32) -> Self {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Some(BTreeSet::new())));
        let shared = std::sync::Arc::clone(&seen);
        let task = tokio::spawn(async move {
            loop {
                let found = connections(pid);
                if let Ok(mut seen) = shared.lock() {
                    match (seen.as_mut(), found) {
                        (Some(seen), Some(found)) => seen.extend(found),
                        _ => *seen = None,
                    }
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .abort_handle();
        Self { seen, task }
    }

    /// What was seen; `None` where this process may not look.
    fn end(self) -> Option<BTreeSet<Connection>> {
        self.seen.lock().ok()?.take()
    }
}

/// A TCP connection by its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Connection {
    local: u16,
    remote: u16,
}

/// The TCP connections of a process over IPv4, from `/proc`. The satellite lets only root look at its descriptors.
fn connections(pid: u32) -> Option<BTreeSet<Connection>> {
    let sockets: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned))
        .filter_map(|target| Some(target.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    Some(table.lines().skip(1).filter_map(|line| connection(line, &sockets)).collect())
}

/// Reads a line of `/proc/net/tcp`: number, local and remote `ADDRESS:PORT` in hexadecimal, …, the socket's inode.
fn connection(line: &str, sockets: &BTreeSet<String>) -> Option<Connection> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    sockets.contains(*fields.get(9)?).then_some(())?;
    let port = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
    Some(Connection { local: port(fields.get(1)?)?, remote: port(fields.get(2)?)? })
}

/// Shows that nobody is a satellite without an SVID, and that the satellite used no other door.
pub(crate) async fn only_mutual_tls(doors: &Doors, watch: Watch, trust_bundle: &str) -> Result<()> {
    let step = Step::begin(format!("a heartbeat to {} without an SVID", doors.spiffe));
    let status = without_svid(doors, trust_bundle).await?;
    if status != 401 {
        return Err(Error::Other(format!("it was answered {status}, 401 was expected")));
    }
    step.done("401, refused");
    let step = Step::begin("the satellite's connections so far, registry included");
    let Some(seen) = watch.end() else {
        step.skipped("only root may look at them");
        return Ok(());
    };
    let to = |address: &str| {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        seen.iter().filter(|connection| Some(connection.remote) == port).count()
    };
    match (to(&doors.spiffe), to(&doors.web)) {
        (0, _) => Err(Error::Other(format!("none to {} was seen", doors.spiffe))),
        (some, 0) => {
            step.done(format!("{some} to {}, where SVIDs are shown, none to {}", doors.spiffe, doors.web));
            Ok(())
        }
        (_, some) => Err(Error::Other(format!("{some} went to {}, which is not for satellites", doors.web))),
    }
}

/// The status that a heartbeat gets whose sender checks Ground Control's SVID and shows none.
async fn without_svid(doors: &Doors, trust_bundle: &str) -> Result<u16> {
    let failed = |error: &dyn std::fmt::Display| Error::Other(error.to_string());
    let domain = identity::TrustDomain::default();
    let bundle = TrustBundle::from_pem(domain.clone(), trust_bundle).map_err(|error| failed(&error))?;
    let ground_control = Expected::Exactly(SpiffeId::ground_control(&domain));
    let config = tls::bootstrap_client_config(bundle, ground_control, &[b"http/1.1"])
        .map_err(|error| failed(&error))?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .use_preconfigured_tls(config)
        .build()
        .map_err(|error| failed(&error))?;
    let request = client.post(format!("https://{}/satellites/sync", doors.spiffe)).body("{}");
    let answer = request.header("Content-Type", "application/json").send().await;
    Ok(answer.map_err(|error| failed(&error))?.status().as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let line =
            "   1: 0100007F:3039 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  0 0 4242 1 0 20";
        let sockets = BTreeSet::from(["4242".to_owned()]);
        assert_eq!(connection(line, &sockets), Some(Connection { local: 12345, remote: 8080 }));
        assert_eq!(connection(line, &BTreeSet::new()), None);
        assert_eq!(connection("", &sockets), None);
    }

    #[tokio::test]
    async fn a_connection_of_ones_own_is_seen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        let local = client.local_addr().unwrap().port();
        let found = connections(std::process::id()).unwrap();
        assert!(found.contains(&Connection { local, remote: address.port() }), "{found:?}");
    }
}
