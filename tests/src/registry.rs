//! Debian's docker-registry over plain http, images made by hand, and pulls through containerd's CRI.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::tools::{feed, free_port, must, must_feed, open_temp_dir, put, text, wait_until};

/// A registry that speaks plain http on loopback. It ends when this is dropped.
#[derive(Debug)]
pub struct Registry {
    server: Child,
    port: u16,
    netns: Option<String>,
    dir: tempfile::TempDir,
}

/// What is in an image: files below `/`, and the command that it runs.
#[derive(Debug, Clone, Default)]
pub struct Image {
    files: Vec<(String, Vec<u8>, u32)>,
    command: Vec<String>,
}

impl Image {
    /// One small file, and nothing that could run.
    pub fn tiny() -> Self {
        Self { files: vec![("hello".to_owned(), b"hello\n".to_vec(), 0o644)], command: vec!["/hello".to_owned()] }
    }

    /// Debian's static busybox, running this command.
    ///
    /// # Panics
    ///
    /// When it is not installed.
    pub fn busybox(command: &[&str]) -> Self {
        let binary = std::fs::read("/bin/busybox").expect("the package busybox-static is installed");
        let command = std::iter::once("/bin/busybox").chain(command.iter().copied()).map(str::to_owned).collect();
        Self { files: vec![("bin/busybox".to_owned(), binary, 0o755)], command }
    }
}

impl Registry {
    /// Starts a registry on a free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When it does not start within 30 seconds.
    pub fn start() -> Self {
        Self::start_in(None)
    }

    /// The same on the loopback of a network namespace: that of a cluster's node, which then reaches it as 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When it does not start within 30 seconds.
    pub fn start_in(netns: Option<&str>) -> Self {
        let dir = open_temp_dir("runbook-registry-", &std::env::temp_dir());
        let port = free_port(Ipv4Addr::LOCALHOST);
        let config = json!({
            "version": 0.1,
            "log": { "level": "warn" },
            "storage": { "filesystem": { "rootdirectory": dir.path().join("data") }, "delete": { "enabled": true } },
            "http": { "addr": format!("127.0.0.1:{port}") },
        });
        put(&dir.path().join("config.yml"), config.to_string(), 0o644); // JSON is YAML too
        let log = std::fs::File::create(dir.path().join("log")).expect("a fresh directory can be written to");
        let mut command = inside(netns, "docker-registry");
        command.arg("serve").arg(dir.path().join("config.yml")).stdin(Stdio::null());
        command.stderr(log.try_clone().expect("a file can be shared")).stdout(log);
        let server = command.spawn().expect("the package docker-registry is installed");
        let mut registry = Self { server, port, netns: netns.map(str::to_owned), dir };
        wait_until("docker-registry answers", Duration::from_secs(30), || {
            let ended = registry.server.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "docker-registry ended: {}", registry.log());
            registry
                .curl(&["-s", "-o", "/dev/null", "-w", "%{http_code}", &registry.url("/v2/")])
                .output()
                .is_ok_and(|o| o.stdout == b"200")
        });
        registry
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`: what stands before the first slash of an image's name.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn curl(&self, args: &[&str]) -> Command {
        let mut command = inside(self.netns.as_deref(), "curl");
        command.args(["--noproxy", "*"]).args(args);
        command
    }

    /// Pushes an image by the registry's HTTP API and gives its full name, `127.0.0.1:PORT/NAME:TAG`.
    ///
    /// # Panics
    ///
    /// When the registry refuses it.
    pub fn push(&self, name: &str, tag: &str, image: &Image) -> String {
        let root = self.dir.path().join("rootfs");
        drop(std::fs::remove_dir_all(&root));
        for (path, content, mode) in &image.files {
            put(&root.join(path), content, *mode);
        }
        let layer = self.dir.path().join("layer.tar");
        must(&[
            "tar",
            "--numeric-owner",
            "--owner=0",
            "--group=0",
            "--sort=name",
            "--mtime=@0",
            "-cf",
            text(&layer),
            "-C",
            text(&root),
            ".",
        ]);
        let layer = std::fs::read(layer).expect("tar has just written it");
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "config": { "Cmd": image.command, "WorkingDir": "/" },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        })
        .to_string();
        let media = |kind: &str| format!("application/vnd.docker.{kind}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media("distribution.manifest.v2+json"),
            "config": { "mediaType": media("container.image.v1+json"), "size": config.len(), "digest": digest(config.as_bytes()) },
            "layers": [{ "mediaType": media("image.rootfs.diff.tar"), "size": layer.len(), "digest": digest(&layer) }],
        });
        for blob in [layer.as_slice(), config.as_bytes()] {
            let started = self.send(
                &["-X", "POST", "-D", "-", "-o", "/dev/null", &self.url(&format!("/v2/{name}/blobs/uploads/"))],
                b"",
            );
            let location = started
                .lines()
                .find_map(|l| l.strip_prefix("Location: "))
                .expect("an upload has a location")
                .trim()
                .to_owned();
            let url = format!("{location}&digest={}", digest(blob));
            self.send(
                &["-X", "PUT", "-H", "Content-Type: application/octet-stream", "--data-binary", "@-", &url],
                blob,
            );
        }
        let kind = format!("Content-Type: {}", media("distribution.manifest.v2+json"));
        self.send(
            &["-X", "PUT", "-H", &kind, "--data-binary", "@-", &self.url(&format!("/v2/{name}/manifests/{tag}"))],
            manifest.to_string().as_bytes(),
        );
        format!("{}/{name}:{tag}", self.endpoint())
    }

    fn send(&self, args: &[&str], body: &[u8]) -> String {
        let mut argv: Vec<String> = Vec::new();
        if let Some(netns) = &self.netns {
            argv.extend(["nsenter".to_owned(), format!("--net=/run/netns/{netns}")]);
        }
        argv.extend(["curl", "-fsS", "--noproxy", "*", "-m", "60"].map(str::to_owned));
        argv.extend(args.iter().map(|a| (*a).to_owned()));
        must_feed(&argv, body)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn inside(netns: Option<&str>, program: &str) -> Command {
    match netns {
        Some(name) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{name}")).arg(program);
            command
        }
        None => Command::new(program),
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Pulls an image as the kubelet does, through the CRI of the containerd behind `socket`; `ctr` does not read `certs.d` by itself.
/// Gives the image's id, or what containerd says is wrong.
///
/// # Errors
///
/// The message of containerd.
///
/// # Panics
///
/// When containerd cannot be asked.
pub fn cri_pull(socket: &Path, image: &str) -> Result<String, String> {
    // PullImageRequest { image: ImageSpec { image } }, both field 1, in a gRPC frame. An image's name has less than 120 bytes here.
    let name = [&[0x0a, u8::try_from(image.len()).expect("a short name")], image.as_bytes()].concat();
    let message = [&[0x0a, u8::try_from(name.len()).expect("a short name")], name.as_slice()].concat();
    let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).expect("a short message")], message.as_slice()].concat();
    let dir = open_temp_dir("runbook-cri-", &std::env::temp_dir());
    let answer = dir.path().join("answer");
    // An answer that came before the whole request was read makes curl fail although it has it.
    let out = feed(
        &[
            "curl",
            "-sS",
            "-m",
            "120",
            "--http2-prior-knowledge",
            "--unix-socket",
            text(socket),
            "-H",
            "Content-Type: application/grpc",
            "-H",
            "TE: trailers",
            "--data-binary",
            "@-",
            "-D",
            "-",
            "-o",
            text(&answer),
            "http://localhost/runtime.v1.ImageService/PullImage",
        ],
        &frame,
    );
    let headers = String::from_utf8_lossy(&out.stdout).into_owned();
    let header = |name: &str| {
        headers.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim_start_matches(':').trim().to_owned())
    };
    match header("grpc-status").as_deref() {
        // PullImageResponse { image_ref }, after the five bytes of the frame, the tag and the length.
        Some("0") => {
            Ok(String::from_utf8_lossy(std::fs::read(&answer).unwrap_or_default().get(7..).unwrap_or_default())
                .into_owned())
        }
        Some(_) => Err(header("grpc-message").unwrap_or_default()),
        // A containerd whose CRI plugin is not loaded resets the stream.
        None => Err(format!("no answer from the CRI: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}
