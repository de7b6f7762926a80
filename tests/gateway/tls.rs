//! TLS before a scripted provider: authorities and certificates made on the spot, and a door that shows one of them.
//!
//! The certificates are written here, byte by byte (RFC 5280, section 4.1): a test wants them wrong in one way each.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::upstream::Upstream;

/// The name that good certificates are for.
pub const NAME: &str = "provider.test";

/// From when to when a certificate holds, as UTCTime.
pub type Time = (&'static str, &'static str);
pub const NOW: Time = ("200101000000Z", "491231235959Z");
pub const PAST: Time = ("200101000000Z", "210101000000Z");
pub const FUTURE: Time = ("480101000000Z", "491231235959Z");

/// A certificate and its key.
#[derive(Clone)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// One that only itself vouches for.
    pub fn self_signed() -> Identity {
        let key = Key::new();
        Identity { certificate: certificate(NAME, &key, NAME, &key, NOW, &names(NAME)), key: key.pkcs8 }
    }
}

/// Who vouches for certificates.
pub struct Authority {
    key: Key,
    name: &'static str,
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new(name: &'static str) -> Authority {
        let (key, dir) = (Key::new(), tempfile::tempdir().unwrap());
        // Basic constraints, critical: an authority.
        let rights = extension(&[0x55, 0x1d, 0x13], true, &der(0x30, &[&[0x01, 0x01, 0xff]]));
        let own = STANDARD.encode(certificate(name, &key, name, &key, NOW, &rights));
        let pem = format!("-----BEGIN CERTIFICATE-----\n{own}\n-----END CERTIFICATE-----\n");
        fs::write(dir.path().join("ca.pem"), pem).unwrap();
        Authority { key, name, dir }
    }

    /// The file with its own certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// What a provider's row says, to trust in nobody else.
    pub fn trusted(&self) -> String {
        format!(", tls: {{ ca_file: \"{}\", server_name: {NAME} }}", self.file().display())
    }

    /// A certificate for that name.
    pub fn vouches(&self, name: &str, time: Time) -> Identity {
        let key = Key::new();
        Identity { certificate: certificate(self.name, &self.key, name, &key, time, &names(name)), key: key.pkcs8 }
    }

    /// A good one.
    pub fn good(&self) -> Identity {
        self.vouches(NAME, NOW)
    }
}

struct Key {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    fn new() -> Key {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Key { pair, pkcs8: pkcs8.as_ref().to_vec() }
    }
}

/// A DER value of that tag.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap();
    let mut out = vec![tag];
    match length {
        0..128 => out.push(length as u8),
        _ => {
            out.push(0x82);
            out.extend(length.to_be_bytes());
            // Shortest form only.
            if length < 256 {
                out = vec![tag, 0x81, length as u8];
            }
        }
    }
    out.extend(content);
    out
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    der(0x30, &[&der(0x06, &[id]), critical, &der(0x04, &[value])])
}

/// The subject's alternative names: this one.
fn names(name: &str) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x11], false, &der(0x30, &[&der(0x82, &[name.as_bytes()])]))
}

fn certificate(issuer: &str, by: &Key, subject: &str, key: &Key, time: Time, extensions: &[u8]) -> Vec<u8> {
    static SERIAL: AtomicUsize = AtomicUsize::new(1);
    let serial = u32::try_from(SERIAL.fetch_add(1, Ordering::SeqCst)).unwrap() | 0x0100_0000;
    let named = |name: &str| {
        let common = der(0x30, &[&der(0x06, &[&[0x55, 0x04, 0x03]]), &der(0x0c, &[name.as_bytes()])]);
        der(0x30, &[&der(0x31, &[&common])])
    };
    // ecdsa-with-SHA256; a public key on P-256.
    let signed_by = der(0x30, &[&der(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]])]);
    let curve = der(
        0x30,
        &[
            &der(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]]),
            &der(0x06, &[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]]),
        ],
    );
    let body = der(
        0x30,
        &[
            &der(0xa0, &[&[0x02, 0x01, 0x02]]),
            &der(0x02, &[&serial.to_be_bytes()]),
            &signed_by,
            &named(issuer),
            &der(0x30, &[&der(0x17, &[time.0.as_bytes()]), &der(0x17, &[time.1.as_bytes()])]),
            &named(subject),
            &der(0x30, &[&curve, &der(0x03, &[&[0], key.pair.public_key().as_ref()])]),
            &der(0xa3, &[&der(0x30, &[extensions])]),
        ],
    );
    let signature = by.pair.sign(&SystemRandom::new(), &body).unwrap();
    der(0x30, &[&body, &signed_by, &der(0x03, &[&[0], signature.as_ref()])])
}

/// Where TLS ends; what is said inside goes on to a scripted provider, connection for connection.
pub struct Door {
    pub addr: SocketAddr,
    seen: Arc<Seen>,
    _runtime: Runtime,
}

struct Seen {
    config: Mutex<Arc<ServerConfig>>,
    /// Whether it says so when it closes.
    notifies: AtomicBool,
    taken: AtomicUsize,
    refused: AtomicUsize,
}

impl Door {
    pub fn open(identity: &Identity, upstream: &Upstream) -> Door {
        Door::speaking(identity, upstream, &[])
    }

    /// One that offers these protocols (ALPN).
    pub fn speaking(identity: &Identity, upstream: &Upstream, protocols: &[&str]) -> Door {
        let seen = Arc::new(Seen {
            config: Mutex::new(config(identity, protocols)),
            notifies: AtomicBool::new(true),
            taken: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let (serving, to) = (Arc::clone(&seen), upstream.addr);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                tokio::spawn(async move {
                    let config = Arc::clone(&serving.config.lock().unwrap());
                    match TlsAcceptor::from(config).accept(stream).await {
                        Ok(stream) => {
                            serving.taken.fetch_add(1, Ordering::SeqCst);
                            relay(stream, to, &serving.notifies).await;
                        }
                        Err(_) => {
                            serving.refused.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        Door { addr, seen, _runtime: runtime }
    }

    /// From now on new connections are shown this.
    pub fn show(&self, identity: &Identity) {
        *self.seen.config.lock().unwrap() = config(identity, &[]);
    }

    /// From now on it closes without a word.
    pub fn closes_silently(&self) {
        self.seen.notifies.store(false, Ordering::SeqCst);
    }

    /// Connections whose peer took the certificate.
    pub fn taken(&self) -> usize {
        self.seen.taken.load(Ordering::SeqCst)
    }

    /// Those whose peer did not.
    pub fn refused(&self) -> usize {
        self.seen.refused.load(Ordering::SeqCst)
    }
}

fn config(identity: &Identity, protocols: &[&str]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(identity.certificate.clone())],
            PrivateKeyDer::Pkcs8(identity.key.clone().into()),
        )
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Carries bytes both ways until one side has ended, then closes both.
async fn relay(stream: tokio_rustls::server::TlsStream<TcpStream>, to: SocketAddr, notifies: &AtomicBool) {
    let Ok(mut plain) = TcpStream::connect(to).await else { return };
    let _ = plain.set_nodelay(true);
    let _ = stream.get_ref().0.set_nodelay(true);
    let (mut reads, mut writes) = tokio::io::split(stream);
    let (mut answers, mut asks) = plain.split();
    let up = async { tokio::io::copy(&mut reads, &mut asks).await.map(|_| ()) };
    let down = async {
        let mut bytes = vec![0; 16 << 10];
        loop {
            let n = answers.read(&mut bytes).await?;
            if n == 0 {
                break;
            }
            writes.write_all(&bytes[..n]).await?;
            writes.flush().await?;
        }
        if notifies.load(Ordering::SeqCst) {
            writes.shutdown().await?;
        }
        std::io::Result::Ok(())
    };
    tokio::select! {
        _ = up => {}
        _ = down => {}
    }
}
