//! A wire to a server that is far away, that counts what a client sends over it, and that breaks where it is told to.
//!
//! Both directions hold each piece of data back for half of the round trip: delay alone, without limits of bandwidth. What is
//! written is encrypted, but cause and effect are not: a piece of the client can answer only what was delivered to the client before,
//! and a piece of the server only what had reached the server. So every piece has a depth: a client's piece is one deeper than the
//! deepest that was delivered to it, a server's is as deep as the deepest that was delivered to the server. The depth of the last
//! answer is the number of flushes that the client, one after the other, had to wait for. What is under way side by side counts once.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::tools::wait_until;

/// Tells how many logins the server has seen so far.
type Logins = Box<dyn Fn() -> usize + Send + Sync>;

/// A TCP proxy before a server that delays and counts; see the module. It is cut when this is dropped.
pub struct Wire {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What goes wrong with the connection on which it happens. Those that are made afterwards are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends find it reset, in the middle of a piece.
    Reset,
    /// Nothing arrives any more at either end, and neither is told: it is half open for as long as they like.
    Silence,
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    ToServer,
    /// To the client.
    ToClient,
}

/// What went over a wire, all its connections together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections of clients.
    pub connections: usize,
    /// Round trips until the server had let somebody in.
    pub login: usize,
    /// Round trips after that.
    pub round_trips: usize,
    /// Bytes from the clients.
    pub sent: usize,
    /// Bytes to the clients.
    pub received: usize,
}

struct Shared {
    server: SocketAddrV4,
    round_trip: Duration,
    logins: Logins,
    over: AtomicBool,
    counted: Mutex<Counted>,
    trap: Mutex<Option<Trap>>,
}

/// A fault that waits.
struct Trap {
    fault: Fault,
    way: Way,
    /// Bytes that still arrive.
    left: usize,
}

#[derive(Default)]
struct Counted {
    /// Logins when the counting began.
    before: usize,
    connections: Vec<Arc<Mutex<Connection>>>,
}

/// What is known of one connection.
#[derive(Default)]
struct Connection {
    /// The deepest piece that has reached the client, and the server.
    client: usize,
    server: usize,
    /// As `client`, when the server had let somebody in.
    login: Option<usize>,
    sent: usize,
    received: usize,
    /// The client has hung up: it waits for nothing any more.
    hung_up: bool,
    /// Nothing more comes from anybody.
    ended: bool,
    /// Nothing arrives any more.
    silent: bool,
    /// Both ends, to cut them.
    ends: Vec<TcpStream>,
}

/// Bytes on their way; none: there are no more. `depth` is theirs, `due` when they arrive.
struct Piece {
    due: Instant,
    depth: usize,
    bytes: Vec<u8>,
}

impl Wire {
    /// A wire to `server`, on another port of its address. `logins` tells how many logins the server has seen so far; all of them are
    /// to come over this wire while it counts. Where there are none, all round trips are before the login.
    ///
    /// # Panics
    ///
    /// When nothing can listen there.
    pub fn to(server: SocketAddrV4, round_trip: Duration, logins: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        let listener =
            TcpListener::bind((*server.ip(), 0)).unwrap_or_else(|e| panic!("binding a port of {}: {e}", server.ip()));
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let counted = Mutex::new(Counted { before: logins(), connections: Vec::new() });
        let over = AtomicBool::new(false);
        let trap = Mutex::default();
        let shared = Arc::new(Shared { server, round_trip, logins: Box::new(logins), over, counted, trap });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.accept(&listener)
        });
        Self { address: SocketAddrV4::new(*server.ip(), port), shared, accepting: Some(accepting) }
    }

    /// Where a client connects to.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Once this many bytes more have arrived at that end, over any of its connections, the one that brought the last of them breaks. Takes
    /// the place of a fault that has not come yet.
    pub fn break_after(&self, bytes: usize, way: Way, fault: Fault) {
        *lock(&self.shared.trap) = Some(Trap { fault, way, left: bytes });
    }

    /// Whether the last fault has come; one that has not is taken away.
    pub fn broke(&self) -> bool {
        lock(&self.shared.trap).take().is_none()
    }

    /// What went over it since it was made, or asked this before. Waits until all connections have ended.
    ///
    /// # Panics
    ///
    /// When one does not within 30 seconds.
    pub fn traffic(&self) -> Traffic {
        let mut counted = lock(&self.shared.counted);
        wait_until("all connections have ended", Duration::from_secs(30), || {
            counted.connections.iter().all(|connection| lock(connection).ended)
        });
        counted.before = (self.shared.logins)();
        let connections = std::mem::take(&mut counted.connections);
        let mut traffic = Traffic { connections: connections.len(), ..Traffic::default() };
        for connection in &connections {
            let connection = lock(connection);
            let login = connection.login.unwrap_or(connection.client);
            traffic.login += login;
            traffic.round_trips += connection.client - login;
            traffic.sent += connection.sent;
            traffic.received += connection.received;
        }
        traffic
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for connection in &lock(&self.shared.counted).connections {
            lock(connection).cut();
        }
        // It is waiting for one more.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let connection = Arc::new(Mutex::new(Connection::default()));
            let mut counted = lock(&self.counted);
            counted.connections.push(Arc::clone(&connection));
            let login = counted.before + counted.connections.len();
            drop(counted);
            let shared = Arc::clone(&self);
            std::thread::spawn(move || {
                // An end that is gone needs nothing carried any more.
                drop(shared.carry(&client, &connection, login));
                let mut connection = lock(&connection);
                connection.cut();
                connection.ended = true;
            });
        }
    }

    /// Carries everything, until both ends have hung up. The server has let this client in when it has seen `login` logins.
    fn carry(&self, client: &TcpStream, connection: &Mutex<Connection>, login: usize) -> std::io::Result<()> {
        // That of the TCP handshake, which this computer did by itself.
        std::thread::sleep(self.round_trip);
        let server = TcpStream::connect(self.server)?;
        for end in [client, &server] {
            end.set_nodelay(true)?;
            lock(connection).ends.push(end.try_clone()?);
        }
        std::thread::scope(|scope| {
            for (from, to, way) in [(client, &server, Way::ToServer), (&server, client, Way::ToClient)] {
                let (pieces, on_their_way) = channel();
                scope.spawn(move || self.take(from, &pieces, connection, way));
                scope.spawn(move || self.deliver(to, &on_their_way, connection, way, login));
            }
        });
        Ok(())
    }

    fn take(&self, mut from: &TcpStream, pieces: &Sender<Piece>, connection: &Mutex<Connection>, way: Way) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            // An end that broke has hung up.
            let length = from.read(&mut buffer).unwrap_or(0);
            let due = Instant::now() + self.round_trip / 2;
            let mut known = lock(connection);
            let depth = match way {
                Way::ToServer => {
                    known.sent += length;
                    known.hung_up |= length == 0;
                    if length == 0 { 0 } else { known.client + 1 }
                }
                Way::ToClient => {
                    known.received += length;
                    known.server
                }
            };
            drop(known);
            if pieces.send(Piece { due, depth, bytes: buffer[..length].to_vec() }).is_err() || length == 0 {
                return;
            }
        }
    }

    fn deliver(
        &self,
        mut to: &TcpStream,
        pieces: &Receiver<Piece>,
        connection: &Mutex<Connection>,
        way: Way,
        login: usize,
    ) {
        for piece in pieces {
            std::thread::sleep(piece.due.saturating_duration_since(Instant::now()));
            // Before it is there: whoever gets it may answer at once.
            let mut known = lock(connection);
            match way {
                Way::ToServer => known.server = known.server.max(piece.depth),
                Way::ToClient if !known.hung_up && !piece.bytes.is_empty() => {
                    known.client = known.client.max(piece.depth);
                    if known.login.is_none() && (self.logins)() >= login {
                        known.login = Some(known.client);
                    }
                }
                Way::ToClient => {}
            }
            let silent = known.silent;
            drop(known);
            let (bytes, fault) = if silent { (&[][..], None) } else { self.sprung(way, &piece.bytes) };
            let arrived = match bytes {
                [] if silent || !piece.bytes.is_empty() => Ok(()),
                [] => to.shutdown(Shutdown::Write),
                bytes => to.write_all(bytes),
            };
            match fault {
                Some(Fault::Reset) => {
                    lock(connection).reset();
                    return;
                }
                // What comes is read, and goes nowhere.
                Some(Fault::Silence) => lock(connection).silent = true,
                None => {}
            }
            if arrived.is_err() {
                lock(connection).cut();
                return;
            }
        }
    }
}

impl Shared {
    /// How much of a piece arrives, and what happens then.
    fn sprung<'a>(&self, way: Way, bytes: &'a [u8]) -> (&'a [u8], Option<Fault>) {
        let mut trap = lock(&self.trap);
        match &mut *trap {
            Some(waiting) if waiting.way == way && waiting.left <= bytes.len() => {
                let (left, fault) = (waiting.left, waiting.fault);
                *trap = None;
                (&bytes[..left], Some(fault))
            }
            Some(waiting) if waiting.way == way => {
                waiting.left -= bytes.len();
                (bytes, None)
            }
            Some(_) | None => (bytes, None),
        }
    }
}

impl Connection {
    /// Neither end gets a farewell: what is closed without lingering sends a reset.
    fn reset(&mut self) {
        self.silent = true;
        for end in self.ends.drain(..) {
            rustix::net::sockopt::set_socket_linger(&end, Some(Duration::ZERO)).expect("a socket of ours");
            // Wakes our own readers, and tells the other side nothing.
            drop(end.shutdown(Shutdown::Read));
        }
    }

    fn cut(&self) {
        for end in &self.ends {
            // What has ended already needs no cutting.
            drop(end.shutdown(Shutdown::Both));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Answers every line; to `login` it lets somebody in, to `silent` it says nothing.
    fn server(logins: Arc<AtomicUsize>) -> SocketAddrV4 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has ports");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let logins = Arc::clone(&logins);
                std::thread::spawn(move || {
                    let mut answers = stream.try_clone().expect("a socket can be shared");
                    for line in BufReader::new(stream).lines().map_while(Result::ok) {
                        if line == "login" {
                            logins.fetch_add(1, Ordering::Relaxed);
                        }
                        if line != "silent" && writeln!(answers, "{line}").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    #[test]
    fn it_breaks_where_it_is_told_to() {
        use std::io::ErrorKind;
        let wire = Wire::to(server(Arc::default()), Duration::ZERO, || 0);
        let connect = || {
            let stream = TcpStream::connect(wire.address()).expect("the wire listens");
            stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket of ours");
            stream
        };
        let answer = |mut stream: &TcpStream, bytes: usize| {
            let mut answer = vec![0; bytes];
            stream.read_exact(&mut answer).map(|()| answer)
        };
        // The whole first answer and a byte of the second, then a reset; the next connection is good.
        wire.break_after(4, Way::ToClient, Fault::Reset);
        let first = connect();
        (&first).write_all(b"ab\nabc\n").expect("it goes out");
        let got = answer(&first, 4).or_else(|error| {
            if error.kind() == ErrorKind::ConnectionReset { Ok(b"ab\na".to_vec()) } else { Err(error) }
        });
        assert_eq!(got.expect("four bytes, unless the reset was faster"), b"ab\na");
        assert_eq!(answer(&first, 1).expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
        assert!(wire.broke());
        let second = connect();
        (&second).write_all(b"ab\n").expect("it goes out");
        assert_eq!(answer(&second, 3).expect("it is answered"), b"ab\n");
        // Nothing comes, and nobody is told.
        wire.break_after(1, Way::ToServer, Fault::Silence);
        (&second).write_all(b"abc\n").expect("it goes out");
        second.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket of ours");
        assert!(matches!(answer(&second, 1).expect_err("silence").kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        assert!(wire.broke());
        let third = connect();
        (&third).write_all(b"ab\n").expect("it goes out");
        assert_eq!(answer(&third, 3).expect("it is answered"), b"ab\n");
        wire.break_after(1000, Way::ToClient, Fault::Reset);
        assert!(!wire.broke(), "it did not come, and does not any more");
    }

    /// Sends these pieces, each once all lines were answered that it expects before it.
    fn client(address: SocketAddr, pieces: &[(&str, usize)]) {
        let mut stream = TcpStream::connect(address).expect("the wire listens");
        let mut answers = BufReader::new(stream.try_clone().expect("a socket can be shared")).lines();
        for (piece, expected) in pieces {
            stream.write_all(piece.as_bytes()).expect("the wire takes it");
            for _ in 0..*expected {
                answers.next().expect("there is an answer").expect("it is text");
            }
        }
    }

    #[test]
    fn a_round_trip_is_a_flush_that_is_waited_for() {
        let logins = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&logins);
        let delay = Duration::from_millis(20);
        let wire = Wire::to(server(logins), delay, move || seen.load(Ordering::Relaxed));
        let address = wire.address().into();

        let start = Instant::now();
        // Two before the login is over, three after it: three lines at once are one, and nobody waits for the last.
        client(address, &[("hello\n", 1), ("login\n", 1), ("a\n", 1), ("b\nc\nd\n", 3), ("e\n", 1), ("silent\n", 0)]);
        assert!(start.elapsed() >= 5 * delay, "it is far away");
        let seen = wire.traffic();
        let expected = Traffic { connections: 1, login: 2, round_trips: 3, sent: 29, received: 22 };
        assert_eq!(seen, expected);

        // Forgotten, and a second login is told from the first. Flushes that are under way side by side count once.
        client(address, &[("login\n", 1), ("silent\n", 0), ("silent\n", 0), ("a\n", 1)]);
        let seen = wire.traffic();
        assert_eq!((seen.connections, seen.login, seen.round_trips), (1, 1, 1));
        assert_eq!(wire.traffic(), Traffic::default());
    }
}
