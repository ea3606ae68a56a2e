//! The whole way over a registry that is not ours: what Ground Control publishes there and images that CI pushes there reach
//! a site, which is given the shared account because it can show who it is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program: what fails ends the test")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use testbed::admin::Wanted;
use testbed::docker_registry::{DockerRegistry, Options, PASSWORDS, Password};
use testbed::image::{self, Image};
use testbed::process::wait_for;
use testbed::satellite::Site;
use testbed::secrets::Secrets;
use testbed::world::World;
use testbed::{files, ground_control, skopeo};

const LIMIT: Duration = Duration::from_secs(60);

fn accounts(pull: Password) -> Vec<(String, Password)> {
    vec![("push".to_owned(), PASSWORDS[0]), ("pull".to_owned(), pull)]
}

/// The registry, the files with its passwords, and a Ground Control beside it.
struct Cloud {
    registry: DockerRegistry,
    secrets: tempfile::TempDir,
    world: World,
}

impl Cloud {
    async fn start() -> Self {
        let options = Options { accounts: accounts(PASSWORDS[1]), ..Options::default() };
        let registry = DockerRegistry::start_with(options).await.unwrap();
        let secrets = files::scratch("secrets").unwrap();
        let file = |account: &str| secrets.path().join(account);
        files::write_private(&file("push"), PASSWORDS[0].text).unwrap();
        files::write_private(&file("pull"), PASSWORDS[1].text).unwrap();
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let environment = [
            ("REGISTRY_BACKEND", "oci".to_owned()),
            ("OCI_REGISTRY_URL", registry.url()),
            ("OCI_PUSH_USERNAME", "push".to_owned()),
            ("OCI_PUSH_PASSWORD_FILE", path(file("push"))),
            ("OCI_PULL_USERNAME", "pull".to_owned()),
            ("OCI_PULL_PASSWORD_FILE", path(file("pull"))),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
        let options = ground_control::Options { spiffe: true, environment, ..Default::default() };
        Self { world: World::start_with(options).await.unwrap(), registry, secrets }
    }

    /// As CI does it: skopeo pushes to the registry, and a group asks for what was pushed.
    async fn publish(&self, tag: &str, seed: u64) -> Image {
        let folder = self.world.dir().join(format!("image-{seed}"));
        let image = image::random(&folder, seed, &[100_000, 20_000]).unwrap();
        let credentials = format!("push:{}", PASSWORDS[0].text);
        let name = format!("shop/app:{tag}");
        skopeo::push(image.layout.dir(), &self.registry.address(), &name, &credentials).await.unwrap();
        let wanted = Wanted::new("shop/app", tag, image.root.digest);
        self.world.admin.sync_group("one", &[wanted]).await.unwrap();
        image
    }

    fn log(&self) -> String {
        String::from_utf8(files::read(&self.world.place.log()).unwrap()).unwrap()
    }
}

async fn arrives(site: &Site, tag: &str, image: &Image) {
    site.wait_for_tag("shop/app", tag, image.root.digest, LIMIT).await.unwrap();
    assert!(site.registry().verify("shop/app", tag).await.unwrap().is_some());
}

/// In one step, as whatever rotates secrets does it.
fn replace(file: &Path, password: Password) {
    let fresh = file.with_extension("new");
    files::write_private(&fresh, password.text).unwrap();
    std::fs::rename(&fresh, file).unwrap();
}

#[tokio::test]
async fn a_site_lives_on_a_registry_elsewhere_through_a_rotation_until_it_is_revoked() {
    let cloud = Cloud::start().await;
    let world = &cloud.world;
    let first = cloud.publish("1", 1).await;
    let site = world.site_with_svid("edge-01", "default", &["one"], &[]).await.unwrap();
    let satellite = site.start().await.unwrap();
    arrives(&site, "1", &first).await;

    // The account's password becomes another one, there and in the file: nobody touches the site.
    let renewals = |log: String| log.matches("registry credentials renewed").count();
    assert_eq!(renewals(cloud.log()), 0);
    cloud.registry.set_accounts(&accounts(PASSWORDS[2])).unwrap();
    replace(&cloud.secrets.path().join("pull"), PASSWORDS[2]);
    let second = cloud.publish("2", 2).await;
    arrives(&site, "2", &second).await;
    assert!(renewals(cloud.log()) > 0);
    arrives_only(&site, "2").await;

    // A new life of the process has them still.
    satellite.stop().await.unwrap();
    let satellite = site.start().await.unwrap();
    let third = cloud.publish("3", 3).await;
    arrives(&site, "3", &third).await;

    // Revoked: it is told nothing and given nothing any more, and serves what it holds.
    world.admin.revoke("edge-01").await.unwrap();
    wait_for("the refusal", LIMIT, async || {
        let status = site.status().await.ok()?.to_string();
        status.contains("403").then_some(())
    })
    .await
    .unwrap();
    assert!(site.registry().verify("shop/app", "3").await.unwrap().is_some());
    assert!(cloud.log().contains("the satellite still has the registry's shared pull account"));
    satellite.stop().await.unwrap();

    // No registry of Ground Control's own, and no password where none may be.
    let own = testbed::registry::Registry::anonymous(&world.place.url());
    assert_eq!(own.ping().await.unwrap(), StatusCode::NOT_FOUND);
    assert!(!world.place.data_dir().join("registry").try_exists().unwrap());
    let mut secrets = Secrets::default();
    for password in PASSWORDS {
        secrets.add("a password of the registry", password.text);
    }
    let found = secrets.in_files(world.dir(), &[site.trust_bundle_file(), site.join_token_file()]);
    let found: Vec<_> =
        found.into_iter().filter(|place| place.contains("password of the registry")).collect();
    assert_eq!(found, Vec::<String>::new());
}

/// What is not wanted any more goes after what came in its place.
async fn arrives_only(site: &Site, tag: &str) {
    let registry = site.registry();
    wait_for("the earlier tag to go", LIMIT, async || {
        let tags = registry.tags("shop/app").await.ok()?;
        (tags == [tag]).then_some(())
    })
    .await
    .unwrap();
}
