//! Programs that no package of the distribution has in the version wanted here, built by Go from its module proxy.
//!
//! Each is built once, in a module of its own, into a folder of the person's cache that carries the version. `go install`
//! refuses programs whose own module excludes or replaces others, so that they are tools of a module of ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::{Error, Result, command, files};

/// The longest that one of them takes to build on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(40 * 60);

/// A program, or some of one module.
#[derive(Clone, Copy, Debug)]
pub struct GoProgram {
    /// What it is called.
    pub name: &'static str,
    /// The version of its module.
    pub version: &'static str,
    packages: &'static [&'static str],
    /// What the built programs are called.
    programs: &'static [&'static str],
    /// Whether it is in part written in C.
    cgo: bool,
    /// What its makers tell the linker, as far as it is asked for: its version.
    linked: &'static str,
}

/// containerd with its client and its shim.
pub const CONTAINERD: GoProgram = GoProgram {
    name: "containerd",
    version: "v2.2.0",
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/ctr",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    ],
    programs: &["containerd", "ctr", "containerd-shim-runc-v2"],
    cgo: false,
    linked: "",
};

/// Docker Engine 29.
pub const DOCKERD: GoProgram = GoProgram {
    name: "dockerd",
    version: "v2.0.0-beta.24",
    packages: &["github.com/moby/moby/v2/cmd/dockerd"],
    programs: &["dockerd"],
    cgo: false,
    linked: "-X github.com/moby/moby/v2/dockerversion.Version=29.0.0-beta.24",
};

/// The runc that it wants.
pub const RUNC: GoProgram = GoProgram {
    name: "runc",
    version: "v1.3.3",
    packages: &["github.com/opencontainers/runc"],
    programs: &["runc"],
    cgo: true,
    linked: "",
};

/// Helm, which the suite `packages` builds by itself.
pub const HELM: GoProgram = GoProgram {
    name: "helm",
    version: "v3.22.0",
    packages: &["helm.sh/helm/v3/cmd/helm"],
    programs: &["helm"],
    cgo: false,
    linked: "",
};

/// Those of the suite `runtimes-new`.
pub const ALL: [GoProgram; 3] = [CONTAINERD, DOCKERD, RUNC];

fn cache() -> Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    named.or_else(home).map(|cache| cache.join("harbor-satellite")).ok_or_else(|| Error::Missing {
        what: "a folder for built programs".into(),
        remedy: "set XDG_CACHE_HOME or HOME".into(),
    })
}

impl GoProgram {
    fn place(&self) -> Result<PathBuf> {
        Ok(cache()?.join(format!("{}-{}", self.name, self.version)))
    }

    /// The folder with the built programs.
    ///
    /// # Errors
    /// [`Error::Missing`] where they are not built.
    pub fn folder(&self) -> Result<PathBuf> {
        let folder = self.place()?;
        if self.programs.iter().all(|program| folder.join(program).is_file()) {
            return Ok(folder);
        }
        Err(Error::Missing {
            what: format!("{} {}", self.name, self.version),
            remedy: "`cargo xtask test runtimes-new` builds it with Go, which takes minutes".into(),
        })
    }

    /// Builds it where it is not built, and gives the folder.
    ///
    /// # Errors
    /// Where Go is not there, or fails.
    pub async fn build(&self) -> Result<PathBuf> {
        if let Ok(folder) = self.folder() {
            return Ok(folder);
        }
        let go = command::find("go")
            .or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
            .ok_or_else(|| Error::Missing {
                what: "Go".into(),
                remedy: "put Go 1.24 or later in PATH".into(),
            })?;
        let place = self.place()?;
        files::create_dir(&place)?;
        let lock = std::fs::File::create(place.join("lock")).map_err(Error::io("cannot create a lock"))?;
        // Another test may be at it: this one waits, and its runtime goes on meanwhile.
        let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
            .await
            .map_err(|error| Error::Content(error.to_string()))?
            .map_err(Error::io("cannot take the lock of the build"))?;
        if let Ok(folder) = self.folder() {
            return Ok(folder);
        }
        let module = files::scratch("go")?;
        let out = module.path().join("out");
        files::create_dir(&out)?;
        let run = async |words: Vec<String>| {
            let mut command = Command::new(&go);
            command.args(words).current_dir(module.path());
            if !self.cgo {
                command.env("CGO_ENABLED", "0");
            }
            command::run_within(command, LIMIT).await
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        run(words(&["mod", "init", "tools"])).await?;
        let mut get = words(&["get", "-tool"]);
        get.extend(self.packages.iter().map(|package| format!("{package}@{}", self.version)));
        run(get).await?;
        let mut build = words(&["build", &format!("-ldflags=-s -w {}", self.linked), "-o"]);
        build.push(format!("{}/", out.display()));
        build.extend(words(self.packages));
        run(build).await?;
        for program in self.programs {
            // In one step, and across file systems.
            let fresh = place.join(format!(".{program}.{}", std::process::id()));
            std::fs::copy(out.join(program), &fresh)
                .and_then(|_| std::fs::rename(&fresh, place.join(program)))
                .map_err(Error::io(format!("cannot keep {program}")))?;
        }
        self.folder()
    }
}

/// Builds what is not built of [`ALL`].
///
/// # Errors
/// The first that fails.
pub async fn build_all() -> Result<()> {
    for program in ALL {
        program.build().await?;
    }
    Ok(())
}
