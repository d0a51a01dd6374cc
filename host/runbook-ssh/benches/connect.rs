//! What a connection costs on both sides: time, processor, round trips, memory. Against a real sshd on loopback; needs root.
//!
//! `cargo bench -p runbook-ssh --bench connect [-- CONNECTIONS]`

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runbook_ssh::connect::{ConnectOptions, Endpoint, connect};
use runbook_ssh::transport::{Output, Transport as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[path = "../tests/sshd/mod.rs"]
mod sshd;

use sshd::{Agent, Lab, Server};

fn main() {
    let connections = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(100);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(all(connections));
}

async fn all(connections: u32) {
    let lab = Lab::new();
    let server = lab.server_with("MaxSessions 200");
    let (endpoint, options) = (lab.endpoint(&server), lab.options());
    println!("{:34}{:>10}{:>12}{:>10}{:>12}", "", "wall ms", "client CPU", "sshd CPU", "round trips");
    for _ in 0..2 {
        row("connect, key in a file", &server, &endpoint, &options, connections, false).await;
    }
    row("connect and run `true`", &server, &endpoint, &options, connections, true).await;
    let agent = Agent::with(&lab, &[&lab.path("id_ed25519")]);
    let held = ConnectOptions { agent: Some(agent.socket.clone()), ..options.clone() };
    row("connect, key in the agent", &server, &endpoint, &held, connections, false).await;
    peer(&lab, &server, 10);
    memory(&endpoint, &options, 200).await;
}

/// Connects again and again, one after the other.
async fn row(what: &str, server: &Server, to: &Endpoint, options: &ConnectOptions, count: u32, run: bool) {
    once(to, options, run).await;
    let (client, host, began) = (cpu("self"), cpu(&server.pid()), Instant::now());
    for _ in 0..count {
        once(to, options, run).await;
    }
    let wall = began.elapsed();
    // Sessions are counted when the server has waited for them.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (client, host) = (cpu("self") - client, cpu(&server.pid()) - host);
    let trips = round_trips(to, options, run).await;
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(count);
    println!("{what:34}{:10.2}{:12.2}{:10.2}{trips:12}", each(wall), each(client), each(host));
}

async fn once(to: &Endpoint, options: &ConnectOptions, run: bool) {
    let transport = connect(to, options).await.unwrap();
    if run {
        let mut process = transport.start("true").await.unwrap();
        while !matches!(process.output.recv().await, Some(Output::Exit(_)) | None) {}
    }
    transport.close().await;
}

/// The same with `ssh`.
fn peer(lab: &Lab, server: &Server, count: u32) {
    let (host, began) = (cpu(&server.pid()), Instant::now());
    let own = children();
    for _ in 0..count {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o"]);
        ssh.arg(format!("UserKnownHostsFile={}", lab.path("known_hosts").display()));
        ssh.arg("-i").arg(lab.path("id_ed25519")).args(["-p", &server.port.to_string(), &server.address, "true"]);
        assert!(ssh.stdin(Stdio::null()).status().unwrap().success());
    }
    let wall = began.elapsed();
    std::thread::sleep(Duration::from_millis(300));
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(count);
    let (client, host) = (children() - own, cpu(&server.pid()) - host);
    println!("{:34}{:10.2}{:12.2}{:10.2}", "ssh HOST true", each(wall), each(client), each(host));
}

/// What a connection takes, idle and after a transfer in each direction.
async fn memory(to: &Endpoint, options: &ConnectOptions, count: usize) {
    let before = rss();
    let mut open = Vec::new();
    for _ in 0..count {
        open.push(connect(to, options).await.unwrap());
    }
    let each = |now: usize| now.saturating_sub(before) as f64 / 1024.0 / count as f64;
    println!("\nmemory of each of {count} connections, KiB: {:.0} idle", each(rss()));
    let mut shells = Vec::new();
    for transport in &open {
        shells.push(transport.start("cat; sleep 60").await.unwrap());
    }
    println!("{:8.0} with a process that waits", each(rss()));
    for shell in &mut shells {
        for _ in 0..8 {
            shell.stdin.send(vec![0; 32 << 10]).await.unwrap();
        }
        let mut bytes = 0;
        while bytes < 256 << 10 {
            if let Some(Output::Stdout(data)) = shell.output.recv().await {
                bytes += data.len();
            }
        }
    }
    println!("{:8.0} after 256 KiB there and back", each(rss()));
    drop(shells);
    for transport in open {
        transport.close().await;
    }
}

/// How often the client sent something after it had heard something.
async fn round_trips(to: &Endpoint, options: &ConnectOptions, run: bool) -> usize {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = (to.addresses[0].clone(), to.port.unwrap());
    let trips = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&trips);
    let proxy = tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(target).await.unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let heard = Arc::new(AtomicBool::new(true));
        let told = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                told.store(true, Ordering::SeqCst);
                if to_client.write_all(&buffer[..n]).await.is_err() {
                    break;
                }
            }
        });
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            if heard.swap(false, Ordering::SeqCst) {
                count.fetch_add(1, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    });
    let through = Endpoint { addresses: vec!["127.0.0.1".to_owned()], port: Some(port), ..to.clone() };
    // Its key is known under the name.
    let files = &options.known_hosts[0];
    let text = std::fs::read_to_string(files).unwrap();
    let key = text.split_once(' ').unwrap().1;
    let own = files.with_file_name("proxy_known_hosts");
    std::fs::write(&own, format!("[127.0.0.1]:{port} {key}")).unwrap();
    let options = ConnectOptions { known_hosts: vec![own], ..options.clone() };
    let transport = connect(&through, &options).await.unwrap();
    if run {
        let mut process = transport.start("true").await.unwrap();
        while !matches!(process.output.recv().await, Some(Output::Exit(_)) | None) {}
    }
    let found = trips.load(Ordering::SeqCst);
    transport.close().await;
    proxy.abort();
    found
}

/// Processor time of a process and of those that it has waited for.
fn cpu(pid: &str) -> Duration {
    ticks(pid, if pid == "self" { &[11, 12] } else { &[11, 12, 13, 14] })
}

fn children() -> Duration {
    ticks("self", &[13, 14])
}

fn ticks(pid: &str, fields: &[usize]) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let stat: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let sum: u64 = fields.iter().map(|f| stat[*f].parse::<u64>().unwrap()).sum();
    Duration::from_millis(sum * 10)
}

fn rss() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
