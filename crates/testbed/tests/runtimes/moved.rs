//! A containerd whose operator has mirrors of their own in `config.toml`: beside a folder of registry hosts they would
//! stop its CRI.

use std::collections::BTreeMap;

use testbed::authority::ServerCertificate;
use testbed::docker_registry::{DockerRegistry, Options};
use testbed::{files, machine};

use crate::engines::{Containerd, Engine as _};
use crate::scene::Scene;

#[test]
fn what_the_operator_has_goes_on_counting_and_comes_back() {
    let name = "moved::what_the_operator_has_goes_on_counting_and_comes_back";
    let result = machine::alone(name, async |machine| {
        let mut scene = Scene::new(machine, &[]).await;
        let certificate = ServerCertificate::new(&["127.0.0.1"]).unwrap();
        let ca = scene.machine.folder().join("operator.pem");
        files::write(&ca, &certificate.authority).unwrap();
        let tls = Some((certificate.certificate, certificate.key));
        let mirror = DockerRegistry::start_with(Options { tls, ..Options::default() }).await.unwrap();
        let tool = &scene.held[1];
        let trusting = mirror.registry().trusting(Some(&ca)).unwrap();
        trusting.push(tool.repository, "1", &tool.image).await.unwrap();
        let registry = "plugins.\"io.containerd.grpc.v1.cri\".registry";
        let config = format!(
            "# this node's\nversion = 2\n\n[{registry}.mirrors.\"quay.io\"]\n  endpoint = [\"{}\"] # ours\n\n\
             [{registry}.configs.\"{}\".tls]\n  ca_file = \"{}\"\n",
            mirror.url(),
            mirror.address(),
            ca.display()
        );
        files::write("/etc/containerd/config.toml".as_ref(), config).unwrap();
        let containerd = Containerd::start(&scene.machine, BTreeMap::new()).await;
        containerd.pull(&tool.references()[0]).await.unwrap();
        let before = scene.machine.configuration();

        let (endpoint, further) = (scene.site.url(), containerd.words());
        let mut words = vec!["apply", "--mirrors=containerd:quay.io", "--endpoint", &endpoint];
        words.extend(further.iter().map(String::as_str));
        scene.mirrors(&words).await.unwrap();
        containerd.forget().await;
        let pulls = scene.pulls(tool);
        containerd.pull(&tool.references()[0]).await.unwrap();
        assert!(scene.pulls(tool) > pulls, "not from the satellite");

        scene.kill_satellite();
        let tool = &scene.held[1];
        containerd.forget().await;
        containerd.pull(&tool.references()[1]).await.unwrap();

        let mut words = vec!["remove"];
        words.extend(further.iter().map(String::as_str));
        scene.mirrors(&words).await.unwrap();
        assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
        containerd.forget().await;
        containerd.pull(&tool.references()[0]).await.unwrap();
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
