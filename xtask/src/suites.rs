//! The suites: which test programs each runs, what it needs, and how long it may take.

use std::time::Duration;

use crate::build::TestProgram;
use crate::packages::Needed;

/// A named set of tests.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Name on the command line.
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// What it needs besides the build, in words.
    pub(crate) needs: &'static str,
    /// Programs and their packages.
    pub(crate) packages: &'static [Needed],
    /// Whether it runs only as root.
    pub(crate) root: bool,
    /// Whether it wants a PostgreSQL, whose administrator's URL it finds in [`POSTGRES_URL`].
    pub(crate) postgres: bool,
    /// What no package holds: where it is missing the suite is skipped with that reason, everywhere.
    pub(crate) live: Live,
    /// The longest that each of its test programs may take.
    pub(crate) limit: Duration,
}

/// What a suite runs against that nobody can be asked to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// It needs nothing of that kind.
    Nothing,
    /// Programs of SPIRE.
    Spire(&'static [&'static str]),
    /// A Harbor that the environment names.
    Harbor,
    /// Container runtimes that no distribution has yet: built by Go where the suite is named, which takes minutes.
    NewRuntimes,
}

/// Tells tests of the store where their PostgreSQL is.
pub(crate) const POSTGRES_URL: &str = "TEST_POSTGRES_URL";

const MINUTE: u64 = 60;

const BUSYBOX: Needed = Needed { program: "busybox", package: "busybox-static" };
const SKOPEO: Needed = Needed { program: "skopeo", package: "skopeo" };
const REGISTRY: Needed = Needed { program: "docker-registry", package: "docker-registry" };
const POSTGRES: Needed = Needed { program: "/usr/lib/postgresql", package: "postgresql" };
const ENGINES: [Needed; 6] = [
    Needed { program: "dockerd", package: "docker.io" },
    Needed { program: "containerd", package: "containerd" },
    Needed { program: "runc", package: "runc" },
    Needed { program: "podman", package: "podman" },
    BUSYBOX,
    SKOPEO,
];
const RSYSLOG: Needed = Needed { program: "/usr/sbin/rsyslogd", package: "rsyslog" };
const RSYSLOG_TLS: Needed = Needed { program: "/usr/share/doc/rsyslog-openssl", package: "rsyslog-openssl" };
const SQLITE: Needed = Needed { program: "sqlite3", package: "sqlite3" };
const FAKETIME: Needed = Needed { program: "/usr/share/doc/libfaketime", package: "libfaketime" };
const CURL: Needed = Needed { program: "curl", package: "curl" };
const OPENSSL: Needed = Needed { program: "openssl", package: "openssl" };
const COMPONENTS: [Needed; 10] = [
    ENGINES[0],
    ENGINES[1],
    ENGINES[2],
    ENGINES[3],
    BUSYBOX,
    SKOPEO,
    REGISTRY,
    POSTGRES,
    RSYSLOG,
    RSYSLOG_TLS,
];
/// What makes packages, and what runs them.
const SHIPPING: [Needed; 7] = [
    Needed { program: "musl-gcc", package: "musl-tools" },
    ENGINES[0],
    ENGINES[1],
    ENGINES[2],
    ENGINES[3],
    BUSYBOX,
    SKOPEO,
];
/// A browser, and what the identity provider runs on.
const BROWSER: [Needed; 4] = [
    Needed { program: "chromium", package: "chromium" },
    Needed { program: "chromedriver", package: "chromium-driver" },
    Needed { program: "node", package: "nodejs" },
    Needed { program: "npm", package: "npm" },
];
/// Runtimes on a machine of their own, and the registry that stands in for the web.
const RUNTIMES: [Needed; 8] = [
    ENGINES[0],
    ENGINES[1],
    ENGINES[2],
    ENGINES[3],
    BUSYBOX,
    SKOPEO,
    REGISTRY,
    Needed { program: "unshare", package: "util-linux" },
];
/// What scripts of the examples call.
const EXAMPLES: [Needed; 4] = [
    CURL,
    Needed { program: "jq", package: "jq" },
    Needed { program: "ssh-keygen", package: "openssh-client" },
    OPENSSL,
];

/// All suites, in the order in which they run.
pub(crate) const SUITES: [Suite; 16] = [
    Suite {
        name: "unit",
        about: "every crate by itself, and the examples in the documentation",
        needs: "nothing",
        packages: &[],
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(8 * MINUTE),
    },
    Suite {
        name: "store",
        about: "Ground Control's store, one suite on SQLite and on PostgreSQL",
        needs: "PostgreSQL (Debian: postgresql)",
        packages: &[POSTGRES],
        root: false,
        postgres: true,
        live: Live::Nothing,
        limit: Duration::from_secs(5 * MINUTE),
    },
    Suite {
        name: "transfer",
        about: "the fetch engine between registries that lie, ours, and Debian's, which has no referrers API",
        needs: "Debian: docker-registry",
        packages: &[REGISTRY],
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(5 * MINUTE),
    },
    Suite {
        name: "registry",
        about: "conformance to OCI Distribution 1.1: the router, the built Ground Control, the built Satellite",
        needs: "nothing",
        packages: &[],
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(5 * MINUTE),
    },
    Suite {
        name: "components",
        about: "the container engines, databases and registries that other suites use; the audit on its way to rsyslog",
        needs: "root; Debian: docker.io containerd runc podman skopeo busybox-static docker-registry postgresql rsyslog rsyslog-openssl",
        packages: &COMPONENTS,
        root: true,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(5 * MINUTE),
    },
    Suite {
        name: "clients",
        about: "skopeo, Docker, Podman and containerd pull from the Satellite with the cloud gone, run the image, and push where they may",
        needs: "root; Debian: docker.io containerd runc podman skopeo busybox-static",
        packages: &ENGINES,
        root: true,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(5 * MINUTE),
    },
    Suite {
        name: "runtimes",
        about: "untouched Docker, containerd and Podman: one command and they pull from the Satellite, fall back without it, and back",
        needs: "root; Debian: docker.io containerd runc podman skopeo busybox-static docker-registry; Go 1.24 or later in PATH",
        packages: &RUNTIMES,
        root: true,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(5 * MINUTE),
    },
    Suite {
        name: "end-to-end",
        about: "groups, updates, removals, failures, wiped disks, backups; every byte stored once; the flow beside Harbor's stand-in",
        needs: "Debian: docker-registry postgresql sqlite3 libfaketime",
        packages: &[REGISTRY, POSTGRES, SQLITE, FAKETIME],
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(8 * MINUTE),
    },
    Suite {
        name: "replicas",
        about: "two Ground Controls on one PostgreSQL and docker-registry: 1,000 changes, 20 kills, nothing lost",
        needs: "Debian: docker-registry postgresql",
        packages: &[REGISTRY, POSTGRES],
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(10 * MINUTE),
    },
    Suite {
        name: "crash",
        about: "100 replications, each killed once at a random point and started again",
        needs: "nothing",
        packages: &[],
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(10 * MINUTE),
    },
    Suite {
        name: "identity",
        about: "SPIFFE with the built-in authority: the flow, refusals, rotation, a moved clock; go-spiffe as the judge",
        needs: "root; Go 1.24 or later in PATH; Debian: libfaketime curl openssl",
        packages: &[FAKETIME, CURL, OPENSSL],
        root: true,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(10 * MINUTE),
    },
    Suite {
        name: "browser",
        about: "people of an OpenID provider log in with Chromium: roles, refusals, cookies, groundctl",
        needs: "Debian: chromium chromium-driver nodejs npm (a Node.js before 20 is replaced by npm's own)",
        packages: &BROWSER,
        root: false,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(8 * MINUTE),
    },
    Suite {
        name: "packages",
        about: "what is shipped: Debian packages installed, run and purged; images pulled and run; charts",
        needs: "root; amd64; the Rust target x86_64-unknown-linux-musl (rustup adds it); Go 1.24 or later in PATH; Debian: musl-tools docker.io containerd runc podman skopeo busybox-static",
        packages: &SHIPPING,
        root: true,
        postgres: false,
        live: Live::Nothing,
        limit: Duration::from_secs(10 * MINUTE),
    },
    Suite {
        name: "runtimes-new",
        about: "the same with containerd 2.2 and Docker Engine 29; a mirror that is a black hole",
        needs: "live: its programs, which `cargo xtask test runtimes-new` builds with Go (minutes, once); root; Debian as `runtimes`",
        packages: &RUNTIMES,
        root: true,
        postgres: false,
        live: Live::NewRuntimes,
        limit: Duration::from_secs(8 * MINUTE),
    },
    Suite {
        name: "spire",
        about: "a real SPIRE: the examples from nothing to a replicated image, rotation, refusals, a stock agent of ours",
        needs: "live: spire-server and spire-agent in PATH or SPIRE_BIN_DIR; Debian: curl jq openssh-client openssl",
        packages: &EXAMPLES,
        root: false,
        postgres: false,
        live: Live::Spire(&["spire-server", "spire-agent"]),
        limit: Duration::from_secs(15 * MINUTE),
    },
    Suite {
        name: "harbor",
        about: "a real Harbor: projects, robots, groups that follow it, sites that pull, rotation, revocation, the end",
        needs: "live: HARBOR_TEST_URL, HARBOR_TEST_USERNAME, HARBOR_TEST_PASSWORD of a Harbor without a project `satellite`; Debian: libfaketime",
        packages: &[FAKETIME],
        root: false,
        postgres: false,
        live: Live::Harbor,
        limit: Duration::from_secs(20 * MINUTE),
    },
];

impl Suite {
    /// Whether a test program belongs to it. Every program belongs to exactly one suite.
    pub(crate) fn runs(&self, program: &TestProgram) -> bool {
        suite_of(&program.package, &program.target, &program.kind) == self.name
    }
}

fn suite_of(package: &str, target: &str, kind: &str) -> &'static str {
    match (package, target) {
        ("testbed", "clients" | "clients_push") => "clients",
        ("testbed", "end_to_end" | "end_to_end_following" | "end_to_end_oci" | "groundctl" | "backup") => {
            "end-to-end"
        }
        // The flow of the live suite, against what Harbor was recorded to answer, with docker-registry behind it.
        ("testbed", "harbor_stand_in") => "end-to-end",
        ("testbed", "harbor_live") => "harbor",
        ("xtask", "fleet") if kind == "test" => "end-to-end",
        // It needs docker-registry, too.
        ("ground-control", "oci_registry") => "end-to-end",
        ("testbed", "crash") => "crash",
        ("testbed", "replicas") => "replicas",
        ("testbed", "packages") if kind == "test" => "packages",
        ("testbed", "browser") if kind == "test" => "browser",
        ("testbed", target) if kind == "test" && target.starts_with("identity") => "identity",
        // The client of SPIRE's server against a stand-in needs no SPIRE.
        ("testbed", "spire_client") => "identity",
        ("testbed", target) if kind == "test" && target.starts_with("spire") => "spire",
        ("testbed", "components") => "components",
        // Their new versions before them: both begin alike.
        ("testbed", target) if kind == "test" && target.starts_with("runtimes_new") => "runtimes-new",
        ("testbed", target) if kind == "test" && target.starts_with("runtimes") => "runtimes",
        // It needs rsyslog.
        ("ground-control", "audit_sinks") => "components",
        ("container-runtimes", "real_parsers" | "real_runtimes") => "components",
        ("testbed", "conformance_binaries") => "registry",
        ("registry-server", target) if kind == "test" && target.starts_with("conformance") => "registry",
        ("transfer", _) if kind == "test" => "transfer",
        ("ground-control-sqlite" | "ground-control-postgres", _) => "store",
        ("ground-control", target) if kind == "test" && target.starts_with("store") => "store",
        _ => "unit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_is_in_a_suite_that_exists() {
        let programs = [
            ("testbed", "clients", "test"),
            ("testbed", "testbed", "lib"),
            ("testbed", "identity_flow", "test"),
            ("testbed", "spire_flow", "test"),
            ("testbed", "packages", "test"),
            ("testbed", "packages", "lib"),
            ("testbed", "harbor_live", "test"),
            ("testbed", "harbor_stand_in", "test"),
            ("testbed", "runtimes", "test"),
            ("testbed", "runtimes_new", "test"),
            ("registry-server", "conformance", "test"),
            ("ground-control-postgres", "anything", "test"),
            ("some-new-crate", "anything", "test"),
        ];
        for (package, target, kind) in programs {
            let name = suite_of(package, target, kind);
            assert_eq!(SUITES.iter().filter(|suite| suite.name == name).count(), 1, "{package}/{target}");
        }
    }
}
