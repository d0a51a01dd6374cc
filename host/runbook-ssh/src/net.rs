//! Looks over the network from a machine, with whatever it has: nothing is installed there.
//!
//! HTTP: curl, python3, openssl, bash, nc or wget, the first that can do what is asked. TCP: bash, python3, nc or curl. DNS:
//! getent for what the machine itself would see; else a question of our own, carried by bash, python3 or nc. Headers, bodies
//! and addresses go over standard input, never as arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runbook_engine::backend::CallContext;
use runbook_model::bytes::Bytes;
use runbook_model::call::{CallError, Command, Exit, HttpRequest, HttpResponse, Input, Output, Text};

use crate::command::{Item, materialise_text};
use crate::dns::{self, RecordType};
use crate::machine::{Machine, Sources, Who};
use crate::marks::Marked;
use crate::quote::tail;
use crate::shells::Lane;

/// Bytes of a body.
const BODY: usize = 1 << 20;
/// For one HTTP exchange.
const HTTP_LIMIT: Duration = Duration::from_secs(60);
/// Questions to a DNS server that does not answer.
const QUESTIONS: usize = 2;

/// Tools of a machine that can reach a network.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools(String);

impl Tools {
    fn has(&self, tool: &str) -> bool {
        self.0.split(' ').any(|name| name == tool)
    }
}

const TOOLS: &str = r#"for t in curl wget bash python3 nc openssl getent timeout; do
if command -v $t >/dev/null 2>&1; then printf '%s ' $t; fi
done
"#;

async fn tools(machine: &Arc<Machine>, ctx: &CallContext) -> Result<Tools, CallError> {
    let connection = machine.connection(ctx).await?;
    let ask = async {
        let item = || Item::script("looking for tools", TOOLS, Vec::new());
        let names = machine.script(Who::Login, Lane::Look, item, ctx, &[]).await?;
        Ok::<_, CallError>(Tools(String::from_utf8_lossy(&names).into_owned()))
    };
    connection.tools.get_or_try_init(|| ask).await.cloned()
}

const PYTHON_HTTP: &str = r#"
import sys, json, ssl, http.client as h
from urllib.parse import urlsplit
r = json.load(sys.stdin)
u = urlsplit(r["url"])
try:
    if u.scheme == "https":
        c = ssl._create_unverified_context() if r["ca"] == "insecure" else ssl.create_default_context(cadata=r["ca"])
        k = h.HTTPSConnection(u.hostname, u.port, timeout=r["timeout"], context=c)
    else:
        k = h.HTTPConnection(u.hostname, u.port, timeout=r["timeout"])
    k.putrequest(r["method"], (u.path or "/") + ("?" + u.query if u.query else ""), skip_accept_encoding=True)
    b = r["body"].encode()
    if b or r["method"] in ("POST", "PUT", "PATCH"): k.putheader("Content-Length", str(len(b)))
    for n, v in r["headers"]: k.putheader(n, v.encode())
    k.endheaders(b or None)
    a = k.getresponse()
    o = sys.stdout.buffer
    o.write(b"HTTP/1.1 %d x\r\n" % a.status)
    for n, v in a.getheaders(): o.write(("%s: %s\r\n" % (n, v)).encode())
    o.write(b"\r\n" + a.read(1048577))
except Exception as e:
    sys.exit("%s: %s" % (type(e).__name__, e))
"#;

/// Makes an HTTP request from a machine. Redirects are not followed.
pub(crate) async fn http(
    machine: &Arc<Machine>,
    request: &HttpRequest,
    lane: Lane,
    marked: Option<&Marked>,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Result<HttpResponse, CallError> {
    let request = Request::new(request, ctx)?;
    let tools = tools(machine, ctx).await?;
    let what = format!("{} {} from {}", request.method, request.url, machine.name);
    let command = request.command(&tools).ok_or_else(|| {
        CallError::Failed(format!(
            "{what}: none of curl, python3, openssl (https), bash, nc (http) and wget is there to do it"
        ))
    })?;
    let wget = command.argv.first().is_some_and(|program| program == "wget");
    let output = machine.one(&[command], lane, marked, sources, ctx).await?;
    let said = tail(&output.stderr.0);
    if !output.exit.success() && !wget {
        return Err(match output.exit {
            Exit::Code(28 | 124) => CallError::TimedOut(format!("{what}: no answer in time")),
            Exit::Code(63) => too_large(&what),
            _ => CallError::Unreachable(format!(
                "{what}: {}",
                if said.is_empty() { output.exit.to_string() } else { said }
            )),
        });
    }
    let response = if wget { wget_response(&output) } else { response(&output.stdout.0) };
    let response = response.ok_or_else(|| CallError::Unreachable(format!("{what}: the answer is not HTTP: {said}")))?;
    if response.body.0.len() > BODY { Err(too_large(&what)) } else { Ok(response) }
}

/// What a response is as the outcome of a change: the body as standard output; exit code 0 below status 400, else 22 as curl has it.
pub(crate) fn outcome(response: HttpResponse) -> Output {
    let failed = response.status >= 400;
    let stderr = if failed { format!("HTTP status {}\n", response.status) } else { String::new() };
    Output {
        exit: Exit::Code(if failed { 22 } else { 0 }),
        stdout: response.body,
        stderr: Bytes::from(stderr.as_str()),
    }
}

/// The same of what a tool wrote; none: there was no response.
pub(crate) fn kept_outcome(output: Output) -> Option<Output> {
    let response = response(&output.stdout.0).or_else(|| wget_response(&output))?;
    (response.body.0.len() <= BODY).then(|| outcome(response))
}

fn too_large(what: &str) -> CallError {
    CallError::Invalid(format!("{what}: the body is larger than {BODY} bytes"))
}

/// A request with everything put in.
struct Request {
    method: String,
    url: String,
    https: bool,
    host: String,
    port: u16,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
    ca: Option<String>,
    timeout: u64,
}

impl Request {
    fn new(request: &HttpRequest, ctx: &CallContext) -> Result<Self, CallError> {
        let invalid = |text: String| CallError::Invalid(text);
        let url = &request.url;
        if request.method.is_empty() || !request.method.bytes().all(|c| c.is_ascii_uppercase()) {
            return Err(invalid(format!("`{}` is no HTTP method", request.method)));
        }
        let bad_url = || invalid(format!("`{url}` is no http:// or https:// address"));
        let (https, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(bad_url()),
        };
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad_url());
        }
        let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(at);
        let target = target.split('#').next().unwrap_or_default();
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = host_and_port(authority, if https { 443 } else { 80 }).ok_or_else(bad_url)?;
        let text = |text: &Text| {
            let text = String::from_utf8_lossy(&materialise_text(text, &ctx.secrets)?).into_owned();
            if text.contains('\0') { Err(invalid("a NUL byte in an HTTP request".to_owned())) } else { Ok(text) }
        };
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            let token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
            let value = text(value)?;
            if name.is_empty() || !name.bytes().all(token) || value.contains(['\r', '\n']) {
                return Err(invalid(format!("the HTTP header `{name}` has a bad name or a line end in its value")));
            }
            headers.push((name.clone(), value));
        }
        let left = ctx.deadline.saturating_duration_since(Instant::now()).min(HTTP_LIMIT);
        Ok(Self {
            method: request.method.clone(),
            url: url.clone(),
            https,
            host,
            port,
            target,
            headers,
            body: text(&request.body)?,
            ca: request.ca.clone().filter(|_| https),
            timeout: left.as_secs().max(1),
        })
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(is, _)| is.eq_ignore_ascii_case(name))
    }

    fn insecure(&self) -> bool {
        self.ca.as_deref() == Some("insecure")
    }

    /// PEM of the authority, as a temporary file.
    fn ca_file(&self) -> Vec<(String, Text)> {
        self.ca.iter().filter(|_| !self.insecure()).map(|pem| ("ca".to_owned(), Text::plain(pem))).collect()
    }

    fn command(&self, tools: &Tools) -> Option<Command> {
        let command = |argv: &[&str], stdin: String| Command {
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            stdin: Input::Text(Text::plain(stdin)),
            files: self.ca_file(),
            ..Command::default()
        };
        let (host, port, timeout) = (self.host.as_str(), self.port.to_string(), self.timeout.to_string());
        let mut limited: Vec<&str> = if tools.has("timeout") { vec!["timeout", &timeout] } else { Vec::new() };
        if tools.has("curl") {
            let mut argv = vec!["curl", "-q", "-sS", "-i", "-g", "-K", "-"];
            if self.insecure() {
                argv.push("-k");
            } else if self.ca.is_some() {
                argv.extend(["--cacert", "{ca}"]);
            }
            return Some(command(&argv, self.curl()));
        }
        if tools.has("python3") {
            let data = serde_json::json!({
                "method": self.method, "url": self.url, "headers": self.headers, "body": self.body, "ca": self.ca,
                "timeout": self.timeout,
            });
            return Some(Command { files: Vec::new(), ..command(&["python3", "-c", PYTHON_HTTP], data.to_string()) });
        }
        if self.https && tools.has("openssl") {
            let address = format!("{host}:{port}");
            limited.extend(["openssl", "s_client", "-quiet", "-connect", &address, "-servername", host]);
            if !self.insecure() {
                limited.extend(["-verify_return_error", "-verify_hostname", host]);
            }
            if self.ca.is_some() && !self.insecure() {
                limited.extend(["-CAfile", "{ca}"]);
            }
            return Some(command(&limited, self.raw()));
        }
        if !self.https && tools.has("bash") {
            let script = "exec 3<>\"/dev/tcp/$0/$1\" || exit 7; cat >&3; exec cat <&3";
            limited.extend(["bash", "-c", script, host, &port]);
            return Some(command(&limited, self.raw()));
        }
        if !self.https && tools.has("nc") {
            limited.extend(["nc", "-w", &timeout, host, &port]);
            return Some(command(&limited, self.raw()));
        }
        // It takes headers as arguments only, and busybox' own does not check certificates.
        let plain = self.method == "GET" && self.headers.is_empty() && self.body.is_empty() && self.ca.is_none();
        let plain = plain && (!self.https || !self.url.is_empty() && self.insecure());
        (plain && tools.has("wget"))
            .then(|| command(&["wget", "-S", "-O", "-", "-T", &timeout, &self.url], String::new()))
    }

    /// As a configuration file for curl.
    fn curl(&self) -> String {
        let mut lines = vec![
            format!("url = {}", curl_quoted(&self.url)),
            format!("max-time = {}", self.timeout),
            format!("max-filesize = {BODY}"),
            "suppress-connect-headers".to_owned(),
        ];
        if self.method == "HEAD" {
            lines.push("head".to_owned());
        } else {
            lines.push(format!("request = {}", curl_quoted(&self.method)));
        }
        if !self.body.is_empty() {
            lines.push(format!("data-raw = {}", curl_quoted(&self.body)));
            // What curl would add by itself.
            for name in ["Content-Type", "Expect"] {
                if !self.has_header(name) {
                    lines.push(format!("header = \"{name}:\""));
                }
            }
        }
        for (name, value) in &self.headers {
            let header = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
            lines.push(format!("header = {}", curl_quoted(&header)));
        }
        lines.join("\n") + "\n"
    }

    /// As bytes on the wire. HTTP 1.0, so that the answer comes in one piece and ends with the connection.
    fn raw(&self) -> String {
        let mut lines = vec![format!("{} {} HTTP/1.0", self.method, self.target)];
        if !self.has_header("host") {
            let default = self.port == if self.https { 443 } else { 80 };
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            lines.push(if default { format!("Host: {host}") } else { format!("Host: {host}:{}", self.port) });
        }
        lines.push("Connection: close".to_owned());
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            lines.push(format!("Content-Length: {}", self.body.len()));
        }
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        format!("{}\r\n\r\n{}", lines.join("\r\n"), self.body)
    }
}

fn curl_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c => out.push(c),
        }
    }
    out + "\""
}

/// "host", "host:port", "[v6]:port", or a bare IPv6 address.
fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        (host, rest.strip_prefix(':'))
    } else if text.matches(':').count() > 1 {
        (text, None)
    } else {
        text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(plain) {
        return None;
    }
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0))?;
    Some((host.to_owned(), port))
}

/// Reads status, headers and body; interim answers are skipped.
pub(crate) fn response(bytes: &[u8]) -> Option<HttpResponse> {
    let mut rest = bytes;
    loop {
        let (end, length) = memchr::memmem::find(rest, b"\r\n\r\n")
            .map(|at| (at, 4))
            .or_else(|| memchr::memmem::find(rest, b"\n\n").map(|at| (at, 2)))
            .unwrap_or((rest.len(), 0));
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + length..];
        let (status, headers) = head_of(&mut head.lines())?;
        if !(100..200).contains(&status) || status == 101 || rest.is_empty() {
            return Some(HttpResponse { status, headers, body: rest.to_vec().into() });
        }
    }
}

fn head_of<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<(u16, Vec<(String, String)>)> {
    let status = lines.next()?.strip_prefix("HTTP/")?.split(' ').nth(1)?.trim().parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    Some((status, headers.collect()))
}

/// wget shows the head among its own words, indented. Where the status is an error, there is no body.
pub(crate) fn wget_response(output: &Output) -> Option<HttpResponse> {
    let said = output.stderr.lossy();
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    let start = lines.iter().rposition(|line| line.starts_with("HTTP/"));
    let (status, headers) = match start {
        Some(start) => head_of(&mut lines[start..].iter().copied().filter(|line| !line.contains("://")))?,
        None => {
            let error = lines.iter().find_map(|line| line.split_once("server returned error: "))?;
            head_of(&mut std::iter::once(error.1))?
        }
    };
    Some(HttpResponse { status, headers, body: output.stdout.clone() })
}

const PYTHON_TCP: &str = "import sys,socket\ntry: socket.create_connection((sys.argv[1],int(sys.argv[2])),float(sys.argv[3]))\nexcept OSError: sys.exit(1)";

/// Some busybox builds know no `-z`, but run a program on the connection.
const NC_TCP: &str = r#"e=$(nc -z -w "$3" "$1" "$2" 2>&1 </dev/null) && exit 0
case $e in *"invalid option"* | *"unrecognized option"*) exec nc -w "$3" "$1" "$2" -e true ;; esac
exit 1"#;

/// Whether a TCP connection from a machine is accepted in time. Refused, filtered and unknown names all say no.
pub(crate) async fn tcp(
    machine: &Arc<Machine>,
    address: &str,
    port: u16,
    timeout: Duration,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Result<bool, CallError> {
    let (host, _) = host_and_port(address, 1)
        .filter(|(host, _)| host == address.trim_matches(['[', ']']))
        .ok_or_else(|| CallError::Invalid(format!("`{address}` is no name or address")))?;
    let tools = tools(machine, ctx).await?;
    let seconds = timeout.as_secs().max(1) + u64::from(timeout.subsec_nanos() > 0 && timeout.as_secs() > 0);
    let (port, seconds) = (port.to_string(), seconds.to_string());
    let (host, port, seconds) = (host.as_str(), port.as_str(), seconds.as_str());
    let argv: Vec<&str> = if tools.has("bash") && tools.has("timeout") {
        vec!["timeout", seconds, "bash", "-c", "exec 3<>\"/dev/tcp/$0/$1\"", host, port]
    } else if tools.has("python3") {
        vec!["python3", "-c", PYTHON_TCP, host, port, seconds]
    } else if tools.has("nc") {
        vec!["sh", "-c", NC_TCP, "sh", host, port, seconds]
    } else {
        return Err(CallError::Failed(format!(
            "{} has neither bash with timeout, nor python3, nor nc: it cannot try a TCP connection",
            machine.name
        )));
    };
    let command = Command { argv: argv.into_iter().map(str::to_owned).collect(), ..Command::default() };
    Ok(machine.one(&[command], Lane::Look, None, sources, ctx).await?.exit.success())
}

/// Arguments: server (empty: the machine's own), port, the question as octal escapes.
const ASK: &str = r#"s=$1 p=$2
if [ -z "$s" ]; then
while read -r a b c; do if [ "$a" = nameserver ]; then s=$b; break; fi; done 2>/dev/null </etc/resolv.conf
fi
[ -n "$s" ] || s=127.0.0.1
q() { printf "$1" | dd ibs=1 obs=4096 2>/dev/null; }
if command -v bash >/dev/null 2>&1 && command -v timeout >/dev/null 2>&1; then
q "$3" | bash -c 'exec 3<>"/dev/udp/$0/$1" || exit 7; dd ibs=1 obs=4096 >&3 2>/dev/null; exec timeout 3 dd bs=65536 count=1 <&3 2>/dev/null' "$s" "$p"
elif command -v python3 >/dev/null 2>&1; then
q "$3" | python3 -c 'import sys,socket as s
q=sys.stdin.buffer.read()
i=s.getaddrinfo(sys.argv[1],int(sys.argv[2]),0,s.SOCK_DGRAM)[0]
k=s.socket(i[0],s.SOCK_DGRAM);k.settimeout(3);k.connect(i[4]);k.send(q);sys.stdout.buffer.write(k.recv(65536))' "$s" "$p" 2>/dev/null
elif command -v nc >/dev/null 2>&1 && case $(nc -u 2>&1 </dev/null) in *"invalid option"*) false ;; esac then
q "$3" | nc -u -w 3 "$s" "$p"
else
echo "neither bash with timeout, nor python3, nor nc with UDP is there to ask a DNS server" >&2; exit 9
fi
exit 0
"#;

/// What a machine is told for a name: empty where there is nothing of that kind.
pub(crate) async fn resolve(
    machine: &Arc<Machine>,
    name: &str,
    record_type: &str,
    server: Option<&str>,
    sources: &dyn Sources,
    ctx: &CallContext,
) -> Result<Vec<String>, CallError> {
    let record = RecordType::named(record_type)?;
    let id = rand::random::<u16>();
    let question = dns::question(id, name, record)?;
    let (host, port) = match server {
        Some(server) => host_and_port(server, 53)
            .ok_or_else(|| CallError::Invalid(format!("`{server}` is no address of a DNS server")))?,
        None => (String::new(), 53),
    };
    let database = match record_type.to_ascii_uppercase().as_str() {
        "A" => Some("ahostsv4"),
        "AAAA" => Some("ahostsv6"),
        _ => None,
    };
    if let Some(database) = database.filter(|_| server.is_none())
        && tools(machine, ctx).await?.has("getent")
    {
        let argv = ["getent", database, name].map(str::to_owned).to_vec();
        let output = machine.one(&[Command { argv, ..Command::default() }], Lane::Look, None, sources, ctx).await?;
        let mut found = Vec::new();
        for address in output.stdout.lossy().lines().filter_map(|line| line.split_whitespace().next()) {
            if !address.starts_with("::ffff:") && !found.iter().any(|known| known == address) {
                found.push(address.to_owned());
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        // It does not tell "there is none" from "nobody answered": the server does.
    }
    let escaped = question.iter().fold(String::new(), |out, byte| out + &format!("\\{byte:03o}"));
    let arguments = [host.clone(), port.to_string(), escaped].map(String::into_bytes).to_vec();
    let asked = if host.is_empty() { format!("the DNS server of {}", machine.name) } else { host };
    let mut why = "no answer".to_owned();
    for _ in 0..QUESTIONS {
        let item = || Item::script(format!("asking {asked} for {name}"), ASK, arguments.clone());
        let answer = machine.script(Who::Login, Lane::Look, item, ctx, &[]).await?;
        if answer.is_empty() {
            continue;
        }
        match dns::answers(id, record, &answer) {
            Ok(values) => return Ok(values),
            Err(error) => why = error,
        }
    }
    Err(CallError::Unreachable(format!("asked {asked} from {} for {record_type} of {name}: {why}", machine.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_answers_as_curl_shows_them() {
        let bytes =
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/2 404 \r\nContent-Type: text/plain\r\nX: a: b\r\n\r\nbody\r\n\r\nmore";
        let response = response(bytes).expect("it is HTTP");
        assert_eq!(response.status, 404);
        assert_eq!(response.headers[1], ("x".to_owned(), "a: b".to_owned()));
        assert_eq!(response.body.0, b"body\r\n\r\nmore");
    }

    #[test]
    fn addresses_are_taken_apart() {
        let of = |text| host_and_port(text, 53);
        assert_eq!(of("1.2.3.4:5353"), Some(("1.2.3.4".to_owned(), 5353)));
        assert_eq!(of("[::1]:54"), Some(("::1".to_owned(), 54)));
        assert_eq!(of("fe80::1"), Some(("fe80::1".to_owned(), 53)));
        assert_eq!(of("$(reboot)"), None);
        assert_eq!(of("-x"), None);
        assert_eq!(of("a:0"), None);
    }

    #[test]
    fn quotes_cannot_be_left_in_a_curl_configuration() {
        assert_eq!(curl_quoted("a\"\nurl = \"b\\"), "\"a\\\"\\nurl = \\\"b\\\\\"");
    }
}
