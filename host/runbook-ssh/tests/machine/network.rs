//! Looks over the network, with one tool after the other.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};

use runbook_engine::backend::{Backend as _, CallContext};
use runbook_model::call::{
    Act, Answer, CallError, Exit, Finding, HttpRequest, Look, Outcome, Prior, SshAct, SshLook, Text, TextPart, Undo,
};

use crate::world::{World, mark, node};

/// An HTTP server that remembers what it was asked. /big is larger than allowed; /gone is 404.
fn server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            told.lock().unwrap().push(head.clone() + &String::from_utf8_lossy(&body));
            let is = |path: &str| head.split(' ').nth(1).is_some_and(|p| p == path);
            let status = if is("/gone") { "404 Not Found" } else { "200 OK" };
            let answer = if is("/big") { vec![b'x'; 2 << 20] } else { b"line\r\n\r\nend".to_vec() };
            let length = answer.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nX-Test: a: b\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            if !head.starts_with("HEAD") {
                let _ = stream.write_all(&answer);
            }
        }
    });
    (address, seen)
}

fn request(method: &str, url: String) -> HttpRequest {
    HttpRequest { method: method.into(), url, headers: Vec::new(), body: Text::default(), ca: None }
}

async fn get(world: &World, request: HttpRequest) -> Result<runbook_model::call::HttpResponse, CallError> {
    match world.backend.look(&node(), &Look::Ssh(SshLook::Http { request }), &world.ctx).await? {
        Answer::Http(response) => Ok(response),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn http_with_whatever_is_there() {
    let (address, seen) = server();
    for tools in [&["curl"][..], &["python3"], &["bash", "timeout"], &["nc"], &["nc=busybox"], &["wget"]] {
        let world = World::with_tools(tools);
        let response = get(&world, request("GET", format!("{address}/x?y=1"))).await.unwrap();
        assert_eq!((response.status, response.body.0.as_slice()), (200, &b"line\r\n\r\nend"[..]), "{tools:?}");
        assert!(response.headers.contains(&("x-test".into(), "a: b".into())), "{tools:?}: {:?}", response.headers);
        assert!(seen.lock().unwrap().last().unwrap().starts_with("GET /x?y=1 "), "{tools:?}");
        assert_eq!(get(&world, request("GET", format!("{address}/gone"))).await.unwrap().status, 404, "{tools:?}");
        let error = get(&world, request("GET", format!("{address}/big"))).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{tools:?}: {error}");
        if tools[0].starts_with("wget") {
            continue;
        }
        let error = get(&world, request("GET", "http://127.0.0.1:1/".into())).await.unwrap_err();
        assert!(matches!(error, CallError::Unreachable(_)), "{tools:?}: {error}");
        let head = get(&world, request("HEAD", format!("{address}/x"))).await.unwrap();
        assert_eq!((head.status, head.body.0.len()), (200, 0), "{tools:?}");
        assert!(seen.lock().unwrap().last().unwrap().starts_with("HEAD /x "), "{tools:?}");

        let mut post = request("POST", format!("{address}/gone"));
        let secret = || TextPart::Secret("token".into());
        post.headers = vec![("Authorization".into(), Text(vec![TextPart::Plain("Bearer \"".into()), secret()]))];
        post.body = Text(vec![TextPart::Plain("@a\n\\\"".into()), secret()]);
        let act = Act::Ssh(SshAct::Http { request: post.clone(), undo: Undo::Harmless });
        let answer = world.backend.act(&node(), &act, &Prior::None, &world.ctx).await.unwrap();
        let Answer::Outcome(Outcome::Done(output)) = answer else { panic!("{answer:?}") };
        assert_eq!((output.exit, output.stdout.0.as_slice()), (Exit::Code(22), &b"line\r\n\r\nend"[..]));
        let got = seen.lock().unwrap().last().unwrap().clone();
        assert!(got.starts_with("POST /gone "), "{tools:?}: {got}");
        assert!(got.contains("Authorization: Bearer \"s3cr3t-VALUE-77\r\n"), "{tools:?}: {got}");
        assert!(got.ends_with("@a\n\\\"s3cr3t-VALUE-77"), "{tools:?}: {got}");
        assert!(!got.to_lowercase().contains("content-type"), "{tools:?}: {got}");
        let error = get(&world, post).await.unwrap_err();
        assert!(matches!(error, CallError::Denied(_)));
        let mut split = request("GET", address.clone());
        split.headers = vec![("X".into(), Text::plain("a\r\nEvil: b"))];
        assert!(matches!(get(&world, split).await, Err(CallError::Invalid(_))));
    }
    let error = get(&World::with_tools(&[]), request("GET", address)).await.unwrap_err();
    assert!(error.to_string().contains("none of curl"), "{error}");
}

#[tokio::test]
async fn tcp_says_yes_or_no() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for tools in [&["bash", "timeout"][..], &["python3"], &["nc"], &["nc=busybox"]] {
        let world = World::with_tools(tools);
        let tcp = async |address: &str, port| {
            let look = SshLook::Tcp { address: address.into(), port, timeout_ms: 2000 };
            match world.backend.look(&node(), &Look::Ssh(look), &world.ctx).await? {
                Answer::Flag(flag) => Ok(flag),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(tcp("127.0.0.1", port).await, Ok(true), "{tools:?}");
        assert_eq!(tcp("127.0.0.1", 1).await, Ok(false), "{tools:?}");
        assert!(matches!(tcp("$(reboot)", 1).await, Err(CallError::Invalid(_))));
    }
}

/// A DNS server that knows `kubernetes.lan` and answers `broken.lan` with SERVFAIL.
fn dns() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..size - 11].to_vec();
            answer[2] |= 0x80;
            answer[11] = 0;
            let has = |label: &[u8]| buffer[..size].windows(label.len()).any(|window| window == label);
            if has(b"kubernetes\x03lan") {
                answer[7] = 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 10, 0, 0, 10]);
            } else {
                answer[3] |= if has(b"broken") { 2 } else { 3 };
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

#[tokio::test]
async fn names_are_resolved_by_the_machine() {
    let server = dns();
    for tools in [&["bash", "timeout"][..], &["python3"], &["nc"]] {
        let world = World::with_tools(tools);
        let resolve = async |name: &str, server: Option<&str>| {
            let look =
                SshLook::Resolve { name: name.into(), record_type: "A".into(), server: server.map(str::to_owned) };
            match world.backend.look(&node(), &Look::Ssh(look), &world.ctx).await? {
                Answer::Names(names) => Ok(names),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(resolve("kubernetes.lan", Some(&server)).await, Ok(vec!["10.0.0.10".into()]), "{tools:?}");
        assert_eq!(resolve("nothing.lan", Some(&server)).await, Ok(Vec::new()), "{tools:?}");
        let error = resolve("broken.lan", Some(&server)).await.unwrap_err();
        assert!(matches!(&error, CallError::Unreachable(text) if text.contains("SERVFAIL")), "{tools:?}: {error}");
    }
    let look = SshLook::Resolve { name: "a.lan".into(), record_type: "MX".into(), server: Some(server) };
    let bare = World::with_tools(&["nc=busybox"]);
    let error = bare.backend.look(&node(), &Look::Ssh(look), &bare.ctx).await.unwrap_err();
    assert!(error.to_string().contains("is there to ask"), "{error}");
    let world = World::with_tools(&["getent"]);
    let look = SshLook::Resolve { name: "localhost".into(), record_type: "A".into(), server: None };
    let names = world.backend.look(&node(), &Look::Ssh(look), &world.ctx).await.unwrap();
    assert_eq!(names, Answer::Names(vec!["127.0.0.1".into()]));
}

#[tokio::test]
async fn what_a_server_answered_comes_with_the_next_session() {
    let (address, seen) = server();
    for tool in ["curl", "python3"] {
        let world = World::with_tools(&[tool, "mkfifo", "tee", "mkdir", "mv", "date", "rmdir"]);
        for (path, code) in [("/", 0), ("/gone", 22)] {
            let request = HttpRequest { body: Text::plain("x"), ..request("POST", format!("{address}{path}")) };
            let undo = Undo::ByHand("look".into());
            let change = Act::Ssh(SshAct::Http { request, undo });
            let before = world.backend.prior(&node(), &change, &world.ctx).await.unwrap();
            let ctx = |session| CallContext { mark: mark("r1", session, 1), ..world.ctx.clone() };
            let (first, second) = (world.again(), world.again());
            let answer = first.backend.act(&node(), &change, &before, &ctx(1)).await.unwrap();
            assert!(
                matches!(&answer, Answer::Outcome(Outcome::Done(output)) if output.exit == Exit::Code(code)),
                "{tool}: {answer:?}"
            );
            let asked = seen.lock().unwrap().len();
            let finding = second.backend.settle(&node(), &change, &before, &ctx(2)).await.unwrap();
            assert_eq!(finding, Finding::Done(answer), "{tool}");
            assert_eq!(seen.lock().unwrap().len(), asked, "it was sent again");
            second.backend.close().await;
        }
    }
}
