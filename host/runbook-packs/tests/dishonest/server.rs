//! A registry that does as a script says, which may be anything that a registry must not do.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use runbook_packs::image::{Image, MANIFEST_TYPE};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// What is written instead of an answer.
type Writes = dyn FnOnce(&mut dyn Write) + Send;

/// What the server does with it.
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// Writes what it wants.
    Raw(Box<Writes>),
}

impl Reply {
    pub(crate) fn new(status: u16, headers: &[(&'static str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Self::Answer { status, headers, body: body.into() }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, &[], "")
    }

    pub(crate) fn raw(write: impl FnOnce(&mut dyn Write) + Send + 'static) -> Self {
        Self::Raw(Box::new(write))
    }

    fn write(self, method: &str, to: &mut dyn Write) {
        match self {
            Self::Raw(write) => write(to),
            Self::Answer { status, headers, body } => {
                let mut head =
                    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.extend([name, ": ", &value, "\r\n"]);
                }
                head.push_str("\r\n");
                // A client that has heard enough closes the connection.
                drop(to.write_all(head.as_bytes()));
                drop(to.write_all(if method == "HEAD" { b"" } else { &body }));
            }
        }
    }
}

/// A server on a port of its own; it lives as long as the test process.
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
}

/// Certificate and key of `127.0.0.1`, made by openssl.
pub(crate) struct Identity {
    pub(crate) certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn new(dir: &Path) -> Self {
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        // Not an authority: rustls takes none of these for a server.
        let config = "[req]\ndistinguished_name = d\nx509_extensions = v\n[d]\n[v]\nsubjectAltName = IP:127.0.0.1\n";
        std::fs::write(dir.join("openssl.conf"), config).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=registry", "-config"])
            .arg(dir.join("openssl.conf"))
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { certificate: std::fs::read(certificate).unwrap(), key: std::fs::read(key).unwrap() }
    }

    fn config(&self) -> Arc<rustls::ServerConfig> {
        let certificates = CertificateDer::pem_slice_iter(&self.certificate).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(&self.key).unwrap();
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap())
    }
}

impl Server {
    /// Speaks plain http.
    pub(crate) fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(script, None)
    }

    /// Speaks TLS.
    pub(crate) fn start_tls(identity: &Identity, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(script, Some(identity.config()))
    }

    fn listen(
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, script) = (server.seen.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen, script, tls) = (stream.unwrap(), seen.clone(), script.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &seen, &*script),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        let mut stream = rustls::StreamOwned::new(connection, stream);
                        serve(&mut stream, &seen, &*script);
                        stream.conn.send_close_notify();
                        drop(stream.flush());
                    }
                });
            }
        });
        server
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn registry(&self) -> String {
        self.address.to_string()
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: impl Read + Write, seen: &Mutex<Vec<Asked>>, script: &(dyn Fn(&Asked) -> Reply + Send + Sync)) {
    let Some(asked) = read(&mut BufReader::new(&mut stream)) else { return };
    seen.lock().unwrap().push(asked.clone());
    script(&asked).write(&asked.method, &mut stream);
    drop(stream.flush());
}

fn read(from: &mut BufReader<impl Read>) -> Option<Asked> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut authorization, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    Some(Asked { method, path, authorization, body })
}

/// What an honest registry answers that has this image, under the tag `1.0` of `bob/zfs`, and no list of what refers to it.
pub(crate) fn honest(image: &Image, asked: &Asked) -> Reply {
    let digest = image.digest();
    let rest = asked.path.strip_prefix("/v2/bob/zfs/").unwrap_or_default();
    match rest.split_once('/') {
        Some(("manifests", at)) if at == "1.0" || at == digest.as_str() => {
            Reply::new(200, &[("Content-Type", MANIFEST_TYPE)], image.manifest.clone())
        }
        Some(("blobs", at)) => match image.blobs.iter().find(|(digest, _)| digest.as_str() == at) {
            Some((_, bytes)) => Reply::new(200, &[], bytes.clone()),
            None => Reply::not_found(),
        },
        _ => Reply::not_found(),
    }
}

/// Refuses a TCP connection: nobody listens there.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert!(TcpStream::connect(address).is_err());
    address.to_string()
}
