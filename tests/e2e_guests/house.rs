//! A little Home Assistant: one plug, its state, and who may switch it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) const TOKEN: &str = "long-lived-7c1d0e";
pub(crate) const ENTITY: &str = "switch.nas_plug";

/// Its server ends with the test process.
pub(crate) struct House {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    plug: String,
    /// The requests that switched something: path and body.
    switched: Vec<String>,
}

impl House {
    pub(crate) fn new(plug: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let url = format!("http://{}", listener.local_addr().expect("is bound"));
        let state = Arc::new(Mutex::new(State { plug: plug.to_owned(), switched: Vec::new() }));
        let of_server = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that breaks off is its own test's to notice.
                let _ = answer(stream, &of_server);
            }
        });
        Self { url, state }
    }

    pub(crate) fn plug(&self) -> String {
        self.state.lock().expect("nobody panicked").plug.clone()
    }

    pub(crate) fn switched(&self) -> Vec<String> {
        self.state.lock().expect("nobody panicked").switched.clone()
    }
}

fn answer(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let (mut length, mut trusted) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim();
        match header.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            None => break,
            Some((name, value)) if name == "content-length" => length = value.parse().unwrap_or(0),
            Some((name, value)) if name == "authorization" => trusted = value == format!("Bearer {TOKEN}"),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    let (status, said) = respond(&words, &body, trusted, state);
    write!(
        reader.into_inner(),
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}",
        said.len()
    )
}

fn respond(words: &[String], body: &str, trusted: bool, state: &Mutex<State>) -> (&'static str, String) {
    let [method, path, ..] = words else { return ("400 Bad Request", String::new()) };
    if !trusted {
        return ("401 Unauthorized", String::new());
    }
    let mut state = state.lock().expect("nobody panicked");
    if let Some(to) = path.strip_prefix("/api/services/homeassistant/turn_").filter(|_| method == "POST") {
        state.plug = to.to_owned();
        state.switched.push(format!("{to} {body}"));
        return ("200 OK", "[]".to_owned());
    }
    if method == "GET" && *path == format!("/api/states/{ENTITY}") {
        let plug = &state.plug;
        // Not ASCII: what a house calls its things seldom is.
        return ("200 OK", format!(r#"{{"state":"{plug}","attributes":{{"friendly_name":"Büro-NAS 💾"}}}}"#));
    }
    ("404 Not Found", String::new())
}
