//! A mirror that is silent: no answer and no refusal. containerd from 2.1 on gives up on it after `dial_timeout`.

use std::time::{Duration, Instant};

use testbed::machine;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::engines::{Containerd, Engine as _};
use crate::scene::Scene;

/// What `hosts.toml` says, for each request.
const DIAL: Duration = Duration::from_millis(300);
/// The requests of a pull of one of the images here: by tag, by digest, the config, two layers.
const REQUESTS: u32 = 5;
/// Room for a busy machine.
const ROOM: Duration = Duration::from_secs(1);

/// A port of loopback that swallows whoever comes: its queue is full, and nobody takes anything out of it.
struct BlackHole {
    listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(DIAL * 2, TcpStream::connect(address)).await {
            queue.push(stream);
            assert!(queue.len() < 100, "a queue that is never full");
        }
        Self { listener, _queue: queue }
    }

    fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }
}

#[test]
fn costs_a_request_its_timeout_at_most() {
    let name = "black_hole::costs_a_request_its_timeout_at_most";
    let result = machine::alone_with(name, &crate::programs(), async |machine| {
        let mut scene = Scene::new(machine, &[]).await;
        scene.kill_satellite();
        let containerd = Containerd::start(&scene.machine, scene.upstream.environment()).await;
        let reference = scene.held[0].references()[0].clone();
        let pull = async || {
            containerd.forget().await;
            let start = Instant::now();
            containerd.pull(&reference).await.unwrap();
            start.elapsed()
        };
        // The quickest of three: what else the machine does only adds.
        let quickest = async || pull().await.min(pull().await).min(pull().await);
        let direct = quickest().await;
        let hole = BlackHole::new().await;
        let (url, further) = (hole.url(), containerd.words());
        let mut words = vec!["apply", "--mirrors=containerd:docker.io", "--endpoint", &url];
        words.extend(further.iter().map(String::as_str));
        scene.mirrors(&words).await.unwrap();
        let silent = quickest().await;
        eprintln!("a pull took {direct:?}, and {silent:?} with a mirror that is silent");
        assert!(silent > DIAL, "{silent:?}: nothing was silent");
        assert!(silent < direct + DIAL * REQUESTS + ROOM, "{silent:?} instead of {direct:?}");
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
