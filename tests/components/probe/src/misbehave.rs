//! One way to misbehave for each word.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::outputs;
use crate::runbook::base::types::{CallError, Effect, Timing};
use crate::runbook::files::trees::{self, Attributes, Content};
use crate::runbook::plugin::run;
use crate::runbook::ssh::machines;

pub fn run(how: &str) -> Result<String, CallError> {
    match how {
        // Uses more than it is given.
        "loop" => loop {
            std::hint::black_box(());
        },
        "recurse" => return Ok(recurse(1).to_string()),
        "memory" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
            }
        }
        "log" => loop {
            run::log(run::Level::Info, &"x".repeat(1000));
        },
        "progress" => loop {
            run::progress("x", 1, None, "");
        },
        "calls" => loop {
            let _ = trees::controller().stat("/x");
        },
        "handles" => loop {
            std::mem::forget(trees::controller());
        },
        "send" => loop {
            write(vec![b'x'; 1 << 20])?;
        },
        "huge call" => write(vec![b'x'; 40 << 20])?,
        "thousand looks" => {
            let controller = trees::controller();
            (0..1000).for_each(|_| drop(controller.stat("/c")));
        }
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "pause" => run::pause(u32::MAX)?,
        "swallow" => while run::pause(10).is_err() {},

        // Breaks.
        "panic" => panic!("the reason of the panic"),
        "exit" => std::process::exit(3),
        "forge" => {
            // SAFETY: the point of the test: nobody gave us this handle.
            let forged = unsafe { machines::Machine::from_handle(4711) };
            return Ok(outputs(&[forged.name()]));
        }
        "use after drop" => {
            let machine = machines::targets("on").remove(0);
            let handle = machine.handle();
            drop(machine);
            // SAFETY: the point of the test: the handle is gone.
            let gone = unsafe { machines::Machine::from_handle(handle) };
            return Ok(outputs(&[gone.name()]));
        }
        "confuse" => {
            let tree = trees::controller();
            // SAFETY: the point of the test: it is a handle of something else.
            let machine = unsafe { machines::Machine::from_handle(tree.take_handle()) };
            return Ok(outputs(&[machine.name()]));
        }

        // Answers nonsense.
        "no json" => return Ok("{not json".to_owned()),
        "no object" => return Ok("[]".to_owned()),
        "not declared" => return Ok("{\"surprise\":1}".to_owned()),
        "wrong type" => return Ok("{\"results\":7}".to_owned()),
        "large" => return Ok(outputs(&["x".repeat(2 << 20)])),

        // Reaches for what is not there.
        "climb" => {
            let tree = trees::controller();
            let paths = ["/srv/../etc/shadow", "relative", "/x\0y"];
            let mut results: Vec<String> = paths.iter().map(|path| format!("{:?}", tree.read(path, 1))).collect();
            results.push(format!("{:?}", tree.read(&"/x".repeat(4000), 1)));
            return Ok(outputs(&results));
        }
        "ambient" => {
            return Ok(outputs(&[
                format!("file {}", std::fs::read("/etc/hostname").is_err()),
                format!("folder {}", std::fs::read_dir("/").is_err()),
                format!("write {}", std::fs::write("/tmp/x", "x").is_err()),
                format!("connect {}", std::net::TcpStream::connect("127.0.0.1:22").is_err()),
                format!("listen {}", std::net::TcpListener::bind("127.0.0.1:0").is_err()),
                format!("udp {}", std::net::UdpSocket::bind("127.0.0.1:0").is_err()),
                format!("lookup {}", std::net::ToSocketAddrs::to_socket_addrs("localhost:22").is_err()),
                format!("env {}", std::env::vars().count()),
                format!("args {}", std::env::args().count()),
                format!("stdin {:?}", std::io::read_to_string(std::io::stdin())),
            ]));
        }

        // Behaves.
        "chance" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            let started = Instant::now();
            std::thread::sleep(Duration::from_millis(20));
            return Ok(outputs(&[
                format!("now {}", now.as_millis()),
                format!("slept {}", started.elapsed() >= Duration::from_millis(20)),
                format!("random {}", RandomState::new().hash_one(1)),
            ]));
        }
        "print" => {
            println!("to stdout");
            eprintln!("to stderr");
        }
        "write a lot" => (0..100_000).for_each(|i| println!("line {i}")),
        other => return Err(CallError::Invalid(format!("cannot {other}"))),
    }
    Ok("{}".to_owned())
}

fn write(bytes: Vec<u8>) -> Result<(), CallError> {
    let effect = Effect { summary: "write".to_owned(), timing: Timing::Now, alters: Vec::new(), repeats: false };
    let attributes = Attributes { mode: None, owner: None, group: None };
    trees::controller().ensure_file("/x", &Content::Bytes(bytes), &attributes, &[], &effect).map(drop)
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the point of the test")]
fn recurse(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[0]
}
