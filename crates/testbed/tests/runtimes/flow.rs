//! From an untouched system to the mirrors, to a Satellite that is gone, and back.

use std::time::{Duration, Instant};

use testbed::machine::Machine;

use crate::engines::Engine;
use crate::scene::{Held, Scene};

/// What a refused mirror may cost a pull at most. Measured are a few milliseconds; the rest is room for a busy machine.
const REFUSED: Duration = Duration::from_secs(1);
/// How often a pull is measured; the quickest counts, since what else the machine does only adds.
const TIMES: u32 = 3;

/// The whole way of one runtime.
pub(crate) async fn there_and_back<E: Engine>(machine: Machine, version: &str) {
    let mut scene = Scene::new(machine, &[]).await;
    let engine = E::start(&scene.machine, scene.upstream.environment()).await;
    let said = engine.version().await;
    assert!(said.contains(version), "{said}");
    let id = engine.id();

    // Untouched: everything comes from the web.
    let direct = quickest(&scene, &engine).await;
    assert!(!scene.upstream.take_asked().is_empty());
    let before = scene.machine.configuration();

    // One command.
    let endpoint = scene.site.url();
    let mut words = vec!["apply", E::MIRRORS, "--endpoint", &endpoint];
    let further = engine.words();
    words.extend(further.iter().map(String::as_str));
    scene.mirrors(&words).await.unwrap();
    let status = scene.mirrors(&["status"]).await.unwrap();
    assert!(status.contains(&format!("{} from", E::HOSTS.join(", "))), "{status}");

    // Everything comes from the Satellite.
    for held in of::<E>(&scene) {
        for reference in held.references() {
            engine.forget().await;
            let pulls = scene.pulls(held);
            engine.pull(&reference).await.unwrap();
            assert!(scene.pulls(held) > pulls, "{reference} was not pulled from the satellite");
        }
    }
    let asked = scene.upstream.take_asked();
    assert_eq!(asked, Vec::<String>::new(), "the web was asked");
    // The same again changes nothing and restarts nothing.
    let restarts = engine.asked();
    scene.mirrors(&words).await.unwrap();
    assert_eq!(engine.asked(), restarts);

    // The Satellite is gone: the web answers, at once.
    scene.kill_satellite();
    let fallen_back = quickest(&scene, &engine).await;
    assert!(!scene.upstream.take_asked().is_empty());
    eprintln!("a pull took {direct:?}, and {fallen_back:?} with a mirror that refuses");
    assert!(fallen_back < direct + REFUSED, "{fallen_back:?} instead of {direct:?}");

    // Another command, and nothing is left.
    let mut words = vec!["remove"];
    words.extend(further.iter().map(String::as_str));
    scene.mirrors(&words).await.unwrap();
    assert_eq!(before.differences(&scene.machine.configuration()), Vec::<String>::new());
    engine.forget().await;
    for held in of::<E>(&scene) {
        engine.pull(&held.references()[0]).await.unwrap();
    }
    if E::MIRRORS.contains("docker:") {
        assert_eq!((engine.id(), engine.asked()), (id, vec!["start".to_owned()]), "it was never restarted");
    }
}

/// The images of the registries that a runtime can mirror.
fn of<E: Engine>(scene: &Scene) -> impl Iterator<Item = &Held> {
    scene.held.iter().filter(|held| E::HOSTS.contains(&held.host))
}

/// The quickest of some pulls of the same image.
async fn quickest<E: Engine>(scene: &Scene, engine: &E) -> Duration {
    let held = of::<E>(scene).next().unwrap();
    let mut best = Duration::MAX;
    for _ in 0..TIMES {
        engine.forget().await;
        let start = Instant::now();
        engine.pull(&held.references()[0]).await.unwrap();
        best = best.min(start.elapsed());
    }
    best
}
