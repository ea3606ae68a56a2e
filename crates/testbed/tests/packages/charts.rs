//! Helm charts and the compose file: taken by helm, whole in themselves, and of settings that the programs know and take.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testbed::authority::Authority;
use testbed::go_programs::HELM;
use testbed::packages::Packages;
use testbed::process::{Process, wait_for};
use testbed::throwaway::Throwaway;
use testbed::{command, files};

use crate::settings;

/// What the clusters that are rendered for say they are.
const KUBERNETES: &str = "1.30.0";
/// What a chart of ours is made of.
const NAMESPACED: [&str; 8] = [
    "DaemonSet",
    "Deployment",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Service",
    "ServiceAccount",
    "StatefulSet",
];
/// A variable that the charts set themselves.
const LOG_LEVEL_AGAIN: &str = r#"extraEnv=[{"name": "LOG_LEVEL", "value": "warn"}]"#;
/// What stands for secrets in the environment.
const DATABASE: &str = "postgres://u:p@127.0.0.1:1/ground_control?sslmode=disable";

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

fn chart(name: &str) -> PathBuf {
    packaging().join("helm").join(name)
}

/// The values that a chart is tried with.
fn values(name: &str) -> Vec<PathBuf> {
    let all = files::walk(&chart(name).join("ci"));
    assert!(all.len() >= 4, "{all:?}");
    all
}

async fn helm(arguments: &[&str]) -> Result<String, String> {
    let mut helm = Command::new(HELM.build().await.unwrap().join("helm"));
    let home = files::scratch("helm").unwrap();
    helm.args(arguments).env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
    command::run(helm).await.map_err(|error| error.to_string())
}

/// The objects of a release.
async fn template(name: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    rendered(&chart(name).display().to_string(), arguments).await
}

/// The same of a chart in this folder or file.
async fn rendered(chart: &str, arguments: &[&str]) -> Result<Vec<Value>, String> {
    let mut all = vec!["template", "r", chart, "--namespace", "n", "--kube-version", KUBERNETES];
    all.extend(arguments);
    let text = helm(&all).await?;
    let documents = text.split("\n---\n").filter(|part| part.lines().any(is_content));
    Ok(documents.map(|document| serde_saphyr::from_str(document).unwrap()).collect())
}

fn is_content(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with('#') && line != "---"
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// All containers of a pod, those that go before others included.
fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(pod, "/initContainers").iter().chain(list(pod, "/containers"))
}

fn names<'a>(container: &'a Value, pointer: &str) -> BTreeSet<&'a str> {
    list(container, pointer).iter().map(|entry| text(entry, "/name")).collect()
}

/// What the level `restricted` of the Pod Security Standards does not admit in a pod without folders of the node.
fn beyond_restricted(pod: &Value) -> Vec<&'static str> {
    let mut beyond = Vec::new();
    let mut want = |met: bool, what| {
        if !met {
            beyond.push(what);
        }
    };
    for host in ["hostNetwork", "hostPID", "hostIPC"] {
        want(pod[host] != true, "the node's namespaces");
    }
    want(pod["securityContext"]["runAsNonRoot"] == true, "runAsNonRoot");
    want(pod["securityContext"]["runAsUser"] != 0, "runAsUser");
    want(pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", "seccompProfile");
    let kinds = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in list(pod, "/volumes") {
        want(kinds.iter().any(|kind| !volume[kind].is_null()), "a kind of volume");
    }
    for container in containers(pod) {
        let context = &container["securityContext"];
        want(context["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
        want(context["privileged"] != true, "privileged");
        want(context["runAsUser"] != 0 && context["runAsNonRoot"] != false, "runAsUser");
        want(context["capabilities"]["drop"] == serde_json::json!(["ALL"]), "capabilities");
        want(context["capabilities"]["add"].is_null(), "capabilities");
        want(list(container, "/ports").iter().all(|port| port["hostPort"].is_null()), "hostPort");
    }
    beyond
}

/// What one object must have to be accepted by a cluster and by the programs, as far as it can be told without one.
async fn judge(program: &str, place: &str, object: &Value, all: &[Value]) {
    let kind = text(object, "/kind");
    // A secret would be in the release's record, in clear. Objects of a whole cluster would be two releases'.
    assert!(NAMESPACED.contains(&kind), "{place}: {kind}");
    assert!(
        text(object, "/metadata/name").starts_with("r-"),
        "{place}: {kind} is not named after its release"
    );
    assert!(object["metadata"]["namespace"].is_null(), "{place}: {kind} is not where its release is");
    if kind == "PersistentVolumeClaim" {
        assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{place}");
    }
    if kind == "ServiceAccount" {
        assert_eq!(object["automountServiceAccountToken"], false, "{place}");
    }
    let Some(pod) = object.pointer("/spec/template/spec") else { return };
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    for (name, value) in object["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[name], *value, "{place}: {kind} does not select its own pods");
        // No upgrade can change it.
        assert!(!["app.kubernetes.io/version", "helm.sh/chart"].contains(&name.as_str()), "{place}: {name}");
    }
    // Nor these, and a volume is to grow.
    assert!(object["spec"]["volumeClaimTemplates"].is_null(), "{place}: {kind}");
    assert_eq!(pod["automountServiceAccountToken"], false, "{place}: {kind}");
    let volumes = names(pod, "/volumes");
    // A folder of the node is beyond what a restricted namespace admits.
    if list(pod, "/volumes").iter().all(|volume| volume["hostPath"].is_null()) {
        assert_eq!(beyond_restricted(pod), [""; 0], "{place}: {kind}");
    }
    let known = settings::known(program).await;
    for container in containers(pod) {
        let name = text(container, "/name");
        let mounted = names(container, "/volumeMounts");
        assert!(mounted.is_subset(&volumes), "{place}: {name} mounts {mounted:?} of {volumes:?}");
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{place}: {name}");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{place}: {name}");
        let arguments: Vec<&str> =
            list(container, "/args").iter().map(|word| word.as_str().unwrap()).collect();
        if arguments.is_empty() {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{place}: {name}");
            let variables = names(container, "/env");
            assert_eq!(variables.len(), list(container, "/env").len(), "{place}: {name} sets one twice");
            settings::all_known(place, variables, &known);
        } else {
            // A command of its own, which knows its own flags.
            judge_arguments(program, place, &arguments).await;
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let port = ["httpGet", "tcpSocket"].iter().find_map(|how| container[probe][how]["port"].as_str());
            let ports = names(container, "/ports");
            assert!(port.is_none_or(|port| ports.contains(port)), "{place}: {name} {probe} asks {port:?}");
        }
    }
    let ports: BTreeSet<&str> = containers(pod).flat_map(|container| names(container, "/ports")).collect();
    for service in all.iter().filter(|object| object["kind"] == "Service") {
        let selector = service["spec"]["selector"].as_object().unwrap();
        if selector.iter().all(|(name, value)| labels[name] == *value) {
            for port in list(service, "/spec/ports") {
                assert!(
                    ports.contains(text(port, "/targetPort")),
                    "{place}: the service leads nowhere: {port}"
                );
            }
        }
    }
}

async fn judge_arguments(program: &str, place: &str, arguments: &[&str]) {
    let words: Vec<&str> = arguments.iter().copied().take_while(|word| !word.starts_with("--")).collect();
    let mut help = Command::new(testbed::binaries::find(program, None).unwrap());
    help.args(&words).arg("--help").env_clear();
    let help = command::run(help).await.unwrap();
    for flag in arguments.iter().filter_map(|word| word.strip_prefix("--")) {
        let flag = format!("--{}", flag.split('=').next().unwrap());
        let is_told = help.split([' ', '\n', '[', '=', ',']).any(|word| word == flag);
        assert!(is_told, "{place}: `{program} {}` does not know {flag}", words.join(" "));
    }
}

/// The environment of a container, with something in the place of secrets.
fn environment(container: &Value) -> BTreeMap<String, String> {
    let value = |entry: &Value| match (&entry["value"], text(entry, "/name")) {
        (Value::String(value), _) => value.clone(),
        (_, "DATABASE_URL") => DATABASE.to_owned(),
        (_, name) => format!("Some-Secret-7-of-{name}"),
    };
    list(container, "/env").iter().map(|entry| (text(entry, "/name").to_owned(), value(entry))).collect()
}

/// The program takes these settings: it comes to say or do something, and does not end with the code of a bad setting. In a
/// network of its own, where every port is free and nobody answers.
async fn is_taken(copy: &Throwaway, program: &str, place: &str, settings: &BTreeMap<String, String>) {
    let mut start = copy.command("unshare");
    start.args([
        "--net",
        "--",
        "sh",
        "-c",
        "ip link set lo up; exec env -i \"$@\"",
        "sh",
        "PATH=/usr/bin:/bin",
    ]);
    start.args(settings.iter().map(|(name, value)| format!("{name}={value}")));
    start.arg(format!("/mnt/{program}"));
    let dir = files::scratch("taken").unwrap();
    let log = dir.path().join("log");
    let process = Process::spawn(program, start, &log).unwrap();
    let said = wait_for("a word of the program", Duration::from_secs(20), async || {
        (process.has_ended() || !files::read(&log).ok()?.is_empty()).then_some(())
    });
    said.await.unwrap();
    // A bad setting is told before anything else; what is told otherwise is a line of its log.
    let said = files::tail(&log, 20);
    let is_log = said.lines().next().is_some_and(|line| line.starts_with('{'));
    assert!(is_log, "{place}: {program} does not take {settings:?}: {said}");
}

/// A copy of the system with the built programs in it, and folders that containers would have.
async fn prepared() -> (Throwaway, tempfile::TempDir) {
    let programs = files::scratch("programs").unwrap();
    for program in ["satellite", "ground-control"] {
        let built = testbed::binaries::find(program, None).unwrap();
        std::fs::copy(built, programs.path().join(program)).unwrap();
    }
    // The one file that has to be there for settings to be taken.
    let authority = Authority::new("example.com").unwrap();
    files::write(&programs.path().join("ca.crt"), authority.bundle_pem()).unwrap();
    let copy = Throwaway::start(programs.path()).await.unwrap();
    copy.sh("mkdir -p /var/lib/satellite /var/lib/ground-control /etc/satellite/ca; cp /mnt/ca.crt /etc/satellite/ca")
        .await
        .unwrap();
    (copy, programs)
}

async fn judge_chart(program: &str) {
    let (copy, _programs) = prepared().await;
    for file in values(program) {
        let place = file.file_name().unwrap().to_str().unwrap().to_owned();
        let file = file.display().to_string();
        let folder = chart(program).display().to_string();
        helm(&["lint", "--strict", "--kube-version", KUBERNETES, &folder, "--values", &file]).await.unwrap();
        let objects = template(program, &["--values", &file]).await.unwrap();
        for object in &objects {
            judge(program, &place, object, &objects).await;
            let Some(pod) = object.pointer("/spec/template/spec") else { continue };
            for container in containers(pod).filter(|container| list(container, "/args").is_empty()) {
                is_taken(&copy, program, &place, &environment(container)).await;
            }
        }
    }
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = objects.iter().map(|object| text(object, "/kind")).collect();
    kinds.sort_unstable();
    kinds
}

fn ci(chart_name: &str, file: &str) -> String {
    format!("--values={}", chart(chart_name).join("ci").join(file).display())
}

#[tokio::test]
async fn the_chart_of_ground_control_is_taken_by_helm_and_by_the_program() {
    judge_chart("ground-control").await;
    let single = template("ground-control", &[&ci("ground-control", "single-values.yaml")]).await.unwrap();
    assert_eq!(
        kinds(&single),
        ["Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service", "ServiceAccount"]
    );
    let harbor = template("ground-control", &[&ci("ground-control", "harbor-values.yaml")]).await.unwrap();
    assert_eq!(
        kinds(&harbor),
        ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"]
    );
}

#[tokio::test]
async fn the_chart_of_the_satellite_is_taken_by_helm_and_by_the_program() {
    judge_chart("satellite").await;
    let single = template("satellite", &[&ci("satellite", "single-values.yaml")]).await.unwrap();
    assert_eq!(kinds(&single), ["PersistentVolumeClaim", "Service", "ServiceAccount", "StatefulSet"]);
    let site = template("satellite", &[&ci("satellite", "site-values.yaml")]).await.unwrap();
    assert_eq!(
        kinds(&site),
        ["DaemonSet", "PersistentVolumeClaim", "Service", "ServiceAccount", "StatefulSet"]
    );
}

#[tokio::test]
async fn a_build_between_versions_has_labels_that_a_cluster_takes() {
    for (name, values) in [("ground-control", "single-values.yaml"), ("satellite", "site-values.yaml")] {
        let folder = files::scratch("chart").unwrap();
        let (source, target) = (chart(name).display().to_string(), folder.path().display().to_string());
        let version = "1.2.3+build.7";
        helm(&["package", &source, "--version", version, "--app-version", version, "--destination", &target])
            .await
            .unwrap();
        let packed = folder.path().join(format!("{name}-{version}.tgz")).display().to_string();
        let objects = rendered(&packed, &[&ci(name, values)]).await.unwrap();
        assert!(objects.len() > 3);
        for object in &objects {
            let pod = &object["spec"]["template"]["metadata"]["labels"];
            for (label, value) in
                [&object["metadata"]["labels"], pod].iter().filter_map(|l| l.as_object()).flatten()
            {
                let value = value.as_str().unwrap();
                let taken = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
                assert!(value.len() <= 63 && value.chars().all(taken), "{label}: {value}");
            }
        }
    }
}

#[tokio::test]
async fn what_the_programs_would_refuse_is_refused_before() {
    let single = ci("ground-control", "single-values.yaml");
    let harbor = ci("ground-control", "harbor-values.yaml");
    let edge = ci("satellite", "single-values.yaml");
    let refused: [(&str, &[&str], &str); 24] = [
        ("ground-control", &[], "publicUrl"),
        ("ground-control", &["--set", "publicUrl=https://gc.example.com"], "tls.existingSecret"),
        ("ground-control", &[&single, "--set", "replicas=2"], "postgres"),
        ("ground-control", &[&harbor, "--set", "registry.backend=builtin"], "built-in registry"),
        ("ground-control", &[&harbor, "--set", "persistence.enabled=true"], "one volume"),
        ("ground-control", &[&harbor, "--set", "secretKey.existingSecret="], "secretKey"),
        ("ground-control", &[&harbor, "--set", "webPublicUrl="], "webPublicUrl"),
        ("ground-control", &[&harbor, "--set", "tls.existingSecret=,unsecure=true"], "tls.existingSecret"),
        ("ground-control", &[&single, "--set", "replica=2"], "replica"),
        ("ground-control", &[&single, "--set", "registry.backend=zot"], "backend"),
        ("satellite", &[], "identity.existingSecret"),
        ("satellite", &["--set", "identity.existingSecret=x"], "groundControlUrl"),
        ("satellite", &[&edge, "--set", "mode=site"], "site.tokenSecret"),
        ("satellite", &[&edge, "--set", "mode=cluster"], "mode"),
        ("satellite", &[&edge, "--set", "service.type=ClusterIP,service.nodePort=30443"], "service.nodePort"),
        // What a cluster would refuse after it took half of the release, or mixes up at the next upgrade.
        ("ground-control", &[&harbor, "--set", "service.webPort=443"], "service.webPort"),
        ("ground-control", &[&single, "--set-json", LOG_LEVEL_AGAIN], "LOG_LEVEL is set already"),
        ("satellite", &[&edge, "--set-json", LOG_LEVEL_AGAIN], "LOG_LEVEL is set already"),
        (
            "ground-control",
            &[&single, "--set", "extraEnv[0].name=A,extraEnv[0].value=1"],
            "/extraEnv/0/value",
        ),
        ("satellite", &[&edge, "--set", "extraEnv[0].name=A,extraEnv[0].valeu=x"], "valeu"),
        ("ground-control", &[&single, "--set", "podAnnotations.a=1"], "/podAnnotations/a"),
        ("satellite", &[&edge, "--set", "service.annotations.a=true"], "/service/annotations/a"),
        ("ground-control", &[&single, "--set-string", r"podLabels.helm\.sh/chart=x"], "the chart's own"),
        (
            "satellite",
            &[&edge, "--set-string", r"podLabels.app\.kubernetes\.io/component=x"],
            "the chart's own",
        ),
    ];
    for (chart, arguments, word) in refused {
        let error = template(chart, arguments).await.unwrap_err();
        assert!(error.contains(word), "{chart} {arguments:?}: {error}");
    }
}

#[tokio::test]
async fn a_release_with_dots_in_its_name_has_names_that_a_service_takes() {
    for (name, values) in
        [("ground-control", "single-values.yaml"), ("satellite", "own-authority-values.yaml")]
    {
        let folder = chart(name).display().to_string();
        let values = ci(name, values);
        for release in ["edge.01".to_owned(), format!("edge.{name}")] {
            let release = release.as_str();
            let text =
                helm(&["template", release, &folder, "--kube-version", KUBERNETES, &values]).await.unwrap();
            let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  name: ")).collect();
            assert!(names.len() >= 4, "{names:?}");
            assert!(names.iter().all(|name| name.starts_with("edge-") && !name.contains('.')), "{names:?}");
        }
    }
}

#[tokio::test]
async fn a_pod_is_given_the_time_that_its_program_takes_to_stop() {
    for (name, values) in [("ground-control", "harbor-values.yaml"), ("satellite", "single-values.yaml")] {
        // Before the program is told there is the pause for load balancers.
        let pause = if name == "ground-control" { 5 } else { 0 };
        for (timeout, seconds) in [("30s", 45), ("1m30s", 105), ("500ms", 16), ("1h", 3615)] {
            let timeout = format!("shutdownTimeout={timeout}");
            let objects = template(name, &[&ci(name, values), "--set", &timeout]).await.unwrap();
            let pods = objects.iter().filter_map(|object| object.pointer("/spec/template/spec"));
            let given: Vec<&Value> = pods.map(|pod| &pod["terminationGracePeriodSeconds"]).collect();
            assert_eq!(given, [&Value::from(seconds + pause)], "{name} {timeout}");
        }
    }
}

#[tokio::test]
async fn the_compose_file_names_our_images_and_settings_that_they_take() {
    let text_of_file = String::from_utf8(files::read(&packaging().join("compose.yaml")).unwrap()).unwrap();
    let compose: Value = serde_saphyr::from_str(&text_of_file).unwrap();
    let (copy, _programs) = prepared().await;
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 2);
    let (edge, cloud) = (&services["satellite"]["environment"], &services["ground-control"]["environment"]);
    assert_eq!(text(edge, "/GROUND_CONTROL_URL"), format!("https://{}", text(cloud, "/LISTEN")));
    for (program, service) in services {
        let (root, _) = Packages::find().unwrap().image(program).unwrap().image().unwrap();
        let version = root.annotations.unwrap().remove("org.opencontainers.image.ref.name").unwrap();
        assert_eq!(service["image"], format!("harbor-satellite/{program}:{version}"));
        assert_eq!(service["read_only"], true);
        let mut settings: BTreeMap<String, String> = service["environment"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        settings::all_known(
            "compose.yaml",
            settings.keys().map(String::as_str),
            &settings::known(program).await,
        );
        // Those of the image, beneath.
        let state = if program == "satellite" { "CONFIG_DIR" } else { "DATA_DIR" };
        settings.insert(state.into(), format!("/var/lib/{program}"));
        settings.insert("JSON_LOGGING".into(), "true".into());
        is_taken(&copy, program, "compose.yaml", &settings).await;
        let volume = format!("{program}:/var/lib/{program}");
        assert!(list(service, "/volumes").iter().any(|mount| *mount == volume.as_str()));
        judge_secrets(program, service, &compose);
        judge_health(program, service).await;
    }
}

/// What is secret is a file of its own, which `docker inspect` and the engine's records do not show.
fn judge_secrets(program: &str, service: &Value, compose: &Value) {
    let mut named = BTreeSet::new();
    for (variable, value) in service["environment"].as_object().unwrap() {
        let value = value.as_str().unwrap();
        assert!(
            !value.contains('$'),
            "{program}: {variable} comes from the environment of whoever starts it"
        );
        named.extend(value.strip_prefix("/run/secrets/"));
    }
    let mounted: BTreeSet<&str> =
        list(service, "/secrets").iter().map(|secret| secret.as_str().unwrap()).collect();
    assert!(!mounted.is_empty());
    assert_eq!(named, mounted, "{program}");
    for secret in mounted {
        assert!(compose["secrets"][secret]["file"].is_string(), "{program}: {secret} is in no file");
    }
}

/// Whoever watches the container runs the one program that is in it, with a command that it knows, and gives it the time
/// that it takes to stop.
async fn judge_health(program: &str, service: &Value) {
    let words: Vec<&str> =
        list(service, "/healthcheck/test").iter().map(|word| word.as_str().unwrap()).collect();
    let path = format!("/usr/bin/{program}");
    assert_eq!(words[..2], ["CMD", path.as_str()]);
    let mut help = Command::new(testbed::binaries::find(program, None).unwrap());
    help.args(&words[2..]).arg("--help").env_clear();
    assert!(command::run(help).await.is_ok(), "{program} does not know {words:?}");
    let grace = text(service, "/stop_grace_period").trim_end_matches('s').parse::<u32>().unwrap();
    assert!(grace > 30, "{program}: its own time for a stop is 30 s, Docker's {grace}");
}
