//! Handshakes in memory: who is let in, who is not, and what either side learns.

use std::sync::Arc;

use identity::tls::{Expected, bootstrap_client_config, client_config, peer, server_config};
use identity::{Identity, IdentityKeeper, Svid, TrustBundle, identity};
use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, ProtocolVersion, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ca::{Ca, EDGE, EXPIRED, GC, Issued, Spec, bundle};

pub(crate) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// What came of a handshake, and of one byte each way: with TLS 1.3 a client learns only then that it was refused.
#[derive(Debug)]
pub(crate) struct Met {
    /// Who the server saw, `None` where no certificate was shown.
    pub(crate) server: Result<Option<String>, String>,
    /// Whom the client saw.
    pub(crate) client: Result<String, String>,
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) alpn: Option<Vec<u8>>,
    pub(crate) resumed: bool,
    pub(crate) tickets: u32,
}

impl Met {
    #[track_caller]
    pub(crate) fn ok(&self, server_saw: Option<&str>, client_saw: &str) {
        assert_eq!(self.server.as_ref().map(Option::as_deref), Ok(server_saw), "{self:?}");
        assert_eq!(self.client.as_deref(), Ok(client_saw), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn refused(&self) {
        assert!(self.server.is_err() && self.client.is_err(), "{self:?}");
    }
}

pub(crate) async fn meet(server: &ServerConfig, client: &ClientConfig) -> Met {
    let (one, other) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(server.clone()));
    let connector = TlsConnector::from(Arc::new(client.clone()));
    let serve = async {
        let mut stream = acceptor.accept(one).await.map_err(|error| error.to_string())?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.map_err(|error| error.to_string())?;
        stream.write_all(&byte).await.map_err(|error| error.to_string())?;
        stream.shutdown().await.map_err(|error| error.to_string())?;
        let certificates = stream.get_ref().1.peer_certificates().map(<[_]>::to_vec);
        Ok(certificates.map(|chain| peer(&chain).unwrap().id.to_string()))
    };
    let call = async {
        let name = ServerName::try_from("ground-control.example").unwrap();
        let mut stream = connector.connect(name, other).await.map_err(|error| error.to_string())?;
        stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.map_err(|error| error.to_string())?;
        assert_eq!(all, b"x");
        Ok::<_, String>(stream.into_inner().1)
    };
    let (server, client) = tokio::join!(serve, call);
    let seen = |connection: &rustls::ClientConnection| {
        peer(connection.peer_certificates().unwrap())
            .map_or_else(|error| error.to_string(), |leaf| leaf.id.to_string())
    };
    let connection = client.as_ref().ok();
    Met {
        version: connection.and_then(|connection| connection.protocol_version()),
        alpn: connection.and_then(|connection| connection.alpn_protocol().map(<[u8]>::to_vec)),
        resumed: connection
            .is_some_and(|connection| connection.handshake_kind() == Some(HandshakeKind::Resumed)),
        tickets: connection.map_or(0, |connection| connection.tls13_tickets_received()),
        client: client.as_ref().map(seen).map_err(Clone::clone),
        server,
    }
}

pub(crate) fn holding(svid: Svid, bundle: TrustBundle) -> (IdentityKeeper, Identity) {
    let (keeper, handle) = identity();
    keeper.set(svid, bundle);
    (keeper, handle)
}

pub(crate) fn exactly(id: &str) -> Expected {
    Expected::Exactly(id.parse().unwrap())
}

/// A server and a client of ours, of one root.
struct Pair {
    ca: Ca,
    gc: (IdentityKeeper, Identity),
    edge: (IdentityKeeper, Identity),
}

impl Pair {
    fn new() -> Self {
        let ca = Ca::root();
        let gc = holding(ca.svid(GC), bundle(&[&ca]));
        let edge = holding(ca.svid(EDGE), bundle(&[&ca]));
        Self { ca, gc, edge }
    }

    fn server(&self) -> ServerConfig {
        server_config(&self.gc.1, ALPN).unwrap()
    }

    fn client(&self, expected: Expected) -> ClientConfig {
        client_config(&self.edge.1, expected, ALPN).unwrap()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A client that is not ours: it takes any server and shows what it is told to.
fn stranger(shown: Option<&Issued>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    #[derive(Debug)]
    struct Anybody;
    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody));
    match shown {
        Some(issued) => builder.with_client_auth_cert(issued.chain.clone(), issued.private_key()).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// A server that is not ours: it shows what it is told to and asks for nothing.
fn strange_server(shown: &Issued, versions: &[&'static rustls::SupportedProtocolVersion]) -> ServerConfig {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain.clone(), shown.private_key())
        .unwrap()
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let pair = Pair::new();
    let met = meet(&pair.server(), &pair.client(exactly(GC))).await;
    met.ok(Some(EDGE), GC);
    assert_eq!(met.version, Some(ProtocolVersion::TLSv1_3), "the newer is preferred");
    assert_eq!(met.alpn.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn a_chain_through_intermediates_is_good() {
    let root = Ca::root();
    let middle = root.intermediate();
    let (_gc, gc) = holding(middle.svid(GC), bundle(&[&root]));
    let (_edge, edge) = holding(middle.svid(EDGE), bundle(&[&root]));
    let client = client_config(&edge, exactly(GC), ALPN).unwrap();
    meet(&server_config(&gc, ALPN).unwrap(), &client).await.ok(Some(EDGE), GC);
}

#[tokio::test]
async fn without_a_certificate_a_client_is_anybody() {
    let pair = Pair::new();
    let client = bootstrap_client_config(bundle(&[&pair.ca]), exactly(GC), ALPN).unwrap();
    meet(&pair.server(), &client).await.ok(None, GC);
    meet(&pair.server(), &stranger(None, rustls::ALL_VERSIONS)).await.ok(None, GC);
}

#[tokio::test]
async fn a_client_takes_only_the_server_it_expects() {
    let pair = Pair::new();
    let other = "spiffe://harbor-satellite.local/gc/other";
    let takes = async |expected| meet(&pair.server(), &pair.client(expected)).await;
    takes(exactly(other)).await.refused();
    takes(exactly("spiffe://elsewhere.example/gc/main")).await.refused();
    takes(Expected::AnyOf(vec![])).await.refused();
    takes(Expected::AnyOf(vec![other.parse().unwrap(), GC.parse().unwrap()])).await.ok(Some(EDGE), GC);
    takes(Expected::Member).await.ok(Some(EDGE), GC);
    let bootstrap = bootstrap_client_config(bundle(&[&pair.ca]), exactly(other), ALPN).unwrap();
    meet(&pair.server(), &bootstrap).await.refused();
}

#[tokio::test]
async fn another_authority_is_refused_on_either_side() {
    let (pair, foreign) = (Pair::new(), Ca::root());
    let met =
        meet(&pair.server(), &stranger(Some(&foreign.issue(&Spec::of(&[EDGE]))), rustls::ALL_VERSIONS)).await;
    met.refused();
    let server = strange_server(&foreign.issue(&Spec::of(&[GC])), rustls::ALL_VERSIONS);
    meet(&server, &pair.client(Expected::Member)).await.refused();
    let bootstrap = bootstrap_client_config(bundle(&[&foreign]), exactly(GC), ALPN).unwrap();
    meet(&pair.server(), &bootstrap).await.refused();
}

#[tokio::test]
async fn a_client_that_is_no_svid_of_ours_is_refused() {
    let pair = Pair::new();
    let of = |spec: Spec<'_>| pair.ca.issue(&spec);
    let cases = [
        (
            "another trust domain",
            of(Spec::of(&["spiffe://elsewhere.example/satellite/region/default/edge-01"])),
        ),
        ("expired", of(Spec { validity: EXPIRED, ..Spec::of(&[EDGE]) })),
        ("not yet good", of(Spec { validity: crate::ca::Validity(3600, 7200), ..Spec::of(&[EDGE]) })),
        ("no SPIFFE ID", of(Spec::of(&[]))),
        ("two of them", of(Spec::of(&[EDGE, GC]))),
        ("no key usage", of(Spec { usages: vec![], ..Spec::of(&[EDGE]) })),
        ("an authority", of(Spec { is_ca: IsCa::Ca(BasicConstraints::Unconstrained), ..Spec::of(&[EDGE]) })),
        (
            "for servers only",
            of(Spec { extended: vec![ExtendedKeyUsagePurpose::ServerAuth], ..Spec::of(&[EDGE]) }),
        ),
    ];
    for (what, shown) in &cases {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let met = meet(&pair.server(), &stranger(Some(shown), &[version])).await;
            assert!(met.server.is_err() && met.client.is_err(), "{what}: {met:?}");
        }
    }
    let good = of(Spec::of(&[EDGE]));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        meet(&pair.server(), &stranger(Some(&good), &[version])).await.ok(Some(EDGE), GC);
    }
}

#[tokio::test]
async fn a_server_that_is_no_svid_of_ours_is_refused() {
    let pair = Pair::new();
    let of = |spec: Spec<'_>| pair.ca.issue(&spec);
    let cases = [
        ("another trust domain", of(Spec::of(&["spiffe://elsewhere.example/gc/main"]))),
        ("expired", of(Spec { validity: EXPIRED, ..Spec::of(&[GC]) })),
        ("no SPIFFE ID", of(Spec::of(&[]))),
        ("two of them", of(Spec::of(&[GC, EDGE]))),
        ("no key usage", of(Spec { usages: vec![], ..Spec::of(&[GC]) })),
        (
            "for clients only",
            of(Spec { extended: vec![ExtendedKeyUsagePurpose::ClientAuth], ..Spec::of(&[GC]) }),
        ),
    ];
    for (what, shown) in &cases {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let met = meet(&strange_server(shown, &[version]), &pair.client(Expected::Member)).await;
            assert!(met.server.is_err() && met.client.is_err(), "{what}: {met:?}");
        }
    }
    let good = of(Spec::of(&[GC]));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let met = meet(&strange_server(&good, &[version]), &pair.client(exactly(GC))).await;
        met.ok(None, GC);
        assert_eq!(met.version, Some(version.version));
    }
}

#[tokio::test]
async fn nothing_is_resumed_and_no_ticket_is_given() {
    let pair = Pair::new();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        // Clients that would resume if they could.
        let eager = stranger(None, &[version]);
        for _ in 0..2 {
            let met = meet(&pair.server(), &eager).await;
            met.ok(None, GC);
            assert!(!met.resumed && met.tickets == 0, "{met:?}");
        }
        // A server that would let a client resume; ours does not ask for it.
        let generous = strange_server(&pair.ca.issue(&Spec::of(&[GC])), &[version]);
        let eager = stranger(None, &[version]);
        assert!(!meet(&generous, &eager).await.resumed);
        assert!(meet(&generous, &eager).await.resumed, "two strangers do resume");
        let client = pair.client(exactly(GC));
        for _ in 0..2 {
            let met = meet(&generous, &client).await;
            met.ok(None, GC);
            assert!(!met.resumed, "{met:?}");
        }
    }
}
