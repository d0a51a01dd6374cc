//! A way to an API server on which answers go wrong, as told.
//!
//! Between a client and the server stand this, in plain HTTP, and `kubectl proxy`, which logs in: so each request can be read, held back or
//! carried out without its answer being heard. One request for each connection.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It does not reach the server: this code is the answer.
    Refused(u16),
    /// The server does it; this code is the answer.
    Unheard(u16),
    /// The server does it; the connection ends without an answer.
    Cut,
}

/// See the module.
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    proxy: Child,
}

struct Shared {
    server: SocketAddr,
    over: AtomicBool,
    /// Part of the request line (`/api/v1/namespaces/x/configmaps`), and what becomes of the next requests that have it.
    mishaps: Mutex<Vec<(String, Mishap)>>,
}

impl Gateway {
    /// To the server of a kubeconfig, as its user.
    ///
    /// # Panics
    ///
    /// When `kubectl proxy` does not start.
    pub fn to(kubeconfig: &Path) -> Self {
        let mut proxy = Command::new("kubectl")
            .args(["proxy", "--port=0", "--kubeconfig"])
            .arg(kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl is installed");
        let mut line = String::new();
        BufReader::new(proxy.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says where it is");
        let server = line.trim().rsplit(' ').next().and_then(|place| place.parse().ok());
        let server = server.unwrap_or_else(|| panic!("kubectl proxy said {line:?}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared { server, over: AtomicBool::new(false), mishaps: Mutex::default() });
        std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                for client in listener.incoming().flatten() {
                    if shared.over.load(Ordering::Relaxed) {
                        return;
                    }
                    let shared = Arc::clone(&shared);
                    // A client that hung up needs no answer.
                    std::thread::spawn(move || drop(shared.serve(client)));
                }
            }
        });
        Self { address, shared, proxy }
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{{name: x, context: {{cluster: x, user: x}}}}]\nusers: [{{name: x, user: {{}}}}]\n\
             clusters: [{{name: x, cluster: {{server: \"http://{}\"}}}}]\n",
            self.address
        )
    }

    /// From now on this becomes of the next request that would change something and whose first line has `part` in it.
    pub fn next(&self, part: &str, mishap: Mishap) {
        self.shared.mishaps.lock().unwrap_or_else(PoisonError::into_inner).push((part.to_owned(), mishap));
    }

    /// Whether all that was to happen has.
    pub fn is_through(&self) -> bool {
        self.shared.mishaps.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        drop(self.proxy.kill());
        drop(self.proxy.wait());
    }
}

impl Shared {
    fn mishap(&self, first: &str) -> Option<Mishap> {
        if first.starts_with("GET ") || first.contains("dryRun=All") {
            return None;
        }
        let mut mishaps = self.mishaps.lock().unwrap_or_else(PoisonError::into_inner);
        let at = mishaps.iter().position(|(part, _)| first.contains(part))?;
        Some(mishaps.remove(at).1)
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let (mut first, mut head, mut length) = (String::new(), String::new(), 0);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or_default(),
                "connection" => continue,
                _ => {}
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mishap = self.mishap(&first);
        let mut answer = Vec::new();
        if !matches!(mishap, Some(Mishap::Refused(_))) {
            let mut server = TcpStream::connect(self.server)?;
            server.write_all(format!("{first}{head}Connection: close\r\n\r\n").as_bytes())?;
            server.write_all(&body)?;
            server.read_to_end(&mut answer)?;
        }
        match mishap {
            None => {}
            Some(Mishap::Cut) => return Ok(()),
            Some(Mishap::Refused(code) | Mishap::Unheard(code)) => {
                let status = format!(
                    "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"status\":\"Failure\",\"message\":\"a mishap\",\"code\":{code}}}"
                );
                answer = format!(
                    "HTTP/1.1 {code} Mishap\r\nContent-Type: application/json\r\nRetry-After: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{status}",
                    status.len()
                )
                .into_bytes();
            }
        }
        client.write_all(&answer)
    }
}
