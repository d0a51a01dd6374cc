//! `microk8s/registry` on nodes whose containerd is Debian's real one, with Debian's docker-registry over plain http.

use std::rc::Rc;
use std::time::Duration;

use runbook_tests::{Generation, Image, LOGIN_FREE, Microk8s, Registry, TestEnv, Tree, cuts, wait_until};

const DATA: &str = "/var/snap/microk8s/current/args";

/// Nodes that do not know the registry yet, and a name for it that only /etc/hosts can tell. (Not its address: containerd takes
/// loopback addresses for plain http by itself.)
struct Bench {
    nodes: Microk8s,
    registry: Rc<Registry>,
    env: TestEnv,
    endpoint: String,
    image: String,
}

impl Bench {
    fn new(nodes: usize, generation: Generation) -> Self {
        Self::at(Rc::new(Registry::start()), nodes, generation)
    }

    fn at(registry: Rc<Registry>, nodes: usize, generation: Generation) -> Self {
        registry.push("chime", "1", &Image::tiny());
        registry.push("chime", "2", &Image::busybox(&["true"]));
        let endpoint = format!("registry.runbook.test:{}", registry.port());
        let image = format!("{endpoint}/chime:1");
        Self { nodes: Microk8s::start(nodes, generation), registry, env: TestEnv::new(), endpoint, image }
    }

    fn runbook(&self, on: &str, more: &str) {
        let hosts = self.nodes.lab().inventory(LOGIN_FREE, "become = \"sudo\"");
        let step = format!(
            "[[step]]\nid = \"registry\"\nuses = \"microk8s/registry\"\non = {on}\nwith.endpoint = \"{}\"\nwith.insecure = true\nwith.address = \"127.0.0.1\"\n{more}",
            self.endpoint
        );
        self.env.write("r.toml", format!("schema = 1\nname = \"pull\"\n\n{hosts}\n{step}"));
    }

    fn changes(&self) -> Vec<Tree> {
        self.nodes.lab().hosts().iter().map(|host| host.changes()).collect()
    }

    fn nothing_is_left_to_do(&self) {
        let before = self.changes();
        let outcome = self.env.run(&["exec", "r.toml", "--yes"]).ok();
        drop(outcome.last_line("succeeded: 1 steps, 0 changed, 1 unchanged, 0 skipped, 0 failed"));
        for (host, (was, is)) in self.nodes.lab().hosts().iter().zip(before.iter().zip(&self.changes())) {
            assert_eq!(settings(&was.differences(is)), Vec::<String>::new(), "{}", host.name());
        }
    }
}

/// Differences of what the node is told; not its containerd's state, the stand-ins' notes, and what sudo writes.
fn settings(differences: &[String]) -> Vec<String> {
    let counts = |line: &&String| {
        let path = line[2..].split(':').next().unwrap_or_default();
        path.starts_with("etc/") || path.contains("/args/")
    };
    differences.iter().filter(counts).cloned().collect()
}

#[test]
fn nodes_pull_over_plain_http_after_it_and_not_before() {
    let bench = Bench::new(2, Generation::CertsD);
    let (nodes, image) = (&bench.nodes, &bench.image);
    bench.runbook("[\"h1\", \"h2\"]", &format!("with.pull = \"{image}\"\n"));
    // With the name alone, containerd speaks https to it.
    let name = &bench.endpoint[..bench.endpoint.find(':').expect("it has a port")];
    nodes.add_name(nodes.lab().host("h1"), "127.0.0.1", name);
    let refused = nodes.pull(nodes.lab().host("h1"), image).expect_err("nobody told containerd to use plain http");
    assert!(refused.contains("server gave HTTP response to HTTPS client"), "{refused}");
    nodes.pull(nodes.lab().host("h2"), image).expect_err("h2 does not even know the name");

    let before = bench.changes();
    let plan = bench.env.run(&["plan", "r.toml"]).ok().stdout_has("hosts.toml");
    for (was, is) in before.iter().zip(&bench.changes()) {
        assert_eq!(settings(&was.differences(is)), Vec::<String>::new(), "{plan}");
    }
    let done = bench.env.run(&["exec", "r.toml", "--yes"]).ok();
    drop(done.last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed"));

    for host in nodes.lab().hosts() {
        // As the kubelet does it, and of an image that the step did not name: nothing of it can lie in a cache.
        let other = format!("{}/chime:2", bench.endpoint);
        // Go keeps what it read in /etc/hosts for five seconds, and h2 has looked for the name before it was there.
        let mut pulled = Err(String::new());
        wait_until(&format!("{} pulls {other}", host.name()), Duration::from_secs(60), || {
            pulled = nodes.pull(host, &other);
            !pulled.as_ref().is_err_and(|said| said.contains("no such host"))
        });
        assert!(pulled.as_ref().is_ok_and(|id| id.starts_with("sha256:")), "{}: {pulled:?}", host.name());
        let listed = host.run(&["/snap/bin/microk8s", "ctr", "images", "ls", "-q"]);
        assert!(String::from_utf8_lossy(&listed.stdout).contains(image.as_str()), "the step pulled it: {listed:?}");
        assert!(!nodes.calls(host).contains("snap restart"), "certs.d is read at each pull: nothing is restarted");
        let hosts = std::fs::read_to_string(host.path("/etc/hosts")).expect("it is there");
        assert_eq!(hosts.lines().filter(|line| line.contains(name)).count(), 1, "{hosts}");
        let written = std::fs::read_to_string(host.path(format!("{DATA}/certs.d/{}/hosts.toml", bench.endpoint)));
        assert!(written.as_ref().is_ok_and(|text| text.contains(&format!("http://{}", bench.endpoint))), "{written:?}");
    }
    bench.nothing_is_left_to_do();

    // Drift on one node alone is found and mended there alone.
    let spoilt = nodes.lab().host("h2").path(format!("{DATA}/certs.d/{}/hosts.toml", bench.endpoint));
    std::fs::write(&spoilt, "server = \"https://elsewhere.invalid\"\n").expect("it can be written to");
    let h1 = nodes.lab().host("h1").changes();
    drop(bench.env.run(&["exec", "r.toml", "--yes"]).ok());
    assert_eq!(settings(&h1.differences(&nodes.lab().host("h1").changes())), Vec::<String>::new());
    assert!(std::fs::read_to_string(&spoilt).is_ok_and(|text| text.contains(&bench.endpoint)));
    bench.nothing_is_left_to_do();
}

#[test]
fn a_node_with_a_template_of_1_22_gets_a_table_and_one_restart() {
    let bench = Bench::new(1, Generation::Mirrors);
    let node = bench.nodes.lab().host("h1");
    bench.nodes.pull(node, &bench.image).expect_err("it does not know the registry");
    // Without a cluster, what ctr pulls proves nothing there.
    bench.runbook("\"h1\"", &format!("with.pull = \"{}\"\n", bench.image));
    let before = node.changes();
    let refused = bench.env.run(&["exec", "r.toml", "--yes"]).code(1);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("from before 1.23"), "{refused}");
    assert_eq!(settings(&before.differences(&node.changes())), Vec::<String>::new(), "refused before anything");

    bench.runbook("\"h1\"", "");
    drop(bench.env.run(&["plan", "r.toml"]).ok().stdout_has("restart containerd"));
    assert_eq!(settings(&before.differences(&node.changes())), Vec::<String>::new(), "a plan changes nothing");
    drop(bench.env.run(&["exec", "r.toml", "--yes"]).ok());
    let restarts = || bench.nodes.calls(node).matches("snap restart microk8s.daemon-containerd").count();
    assert_eq!(restarts(), 1);
    bench.nodes.pull(node, &bench.image).unwrap_or_else(|e| panic!("{e}\n{}", bench.nodes.containerd_log(node)));
    bench.nothing_is_left_to_do();
    assert_eq!(restarts(), 1, "and none afterwards");
}

#[test]
fn killed_on_the_way_it_comes_to_the_same_end() {
    // With a template: a file, and a restart when the step ends. Passwords of the lab's users are salted.
    let told = |bench: &Bench| {
        let told = Tree::of("/nonexistent").differences(&bench.nodes.lab().host("h1").changes());
        settings(&told).into_iter().filter(|line| !line.contains("etc/shadow")).collect::<Vec<_>>()
    };
    let whole = Bench::new(1, Generation::Mirrors);
    whole.runbook("\"h1\"", "");
    drop(whole.env.run(&["exec", "r.toml", "--yes"]).ok());
    for cut in cuts(&whole.env.journal()) {
        let bench = Bench::at(Rc::clone(&whole.registry), 1, Generation::Mirrors);
        bench.runbook("\"h1\"", "");
        bench.env.cut_and_resume(&["exec", "r.toml", "--yes"], &cut);
        assert_eq!(told(&bench), told(&whole), "{cut}");
        assert!(bench.nodes.calls(bench.nodes.lab().host("h1")).contains("snap restart"), "{cut}");
        bench.nothing_is_left_to_do();
    }
}

#[test]
fn a_registry_that_does_not_serve_is_said_with_what_to_do() {
    let mut bench = Bench::new(1, Generation::CertsD);
    // An image that nobody pushed.
    bench.runbook("\"h1\"", &format!("with.pull = \"{}/nothing:1\"\n", bench.endpoint));
    let outcome = bench.env.run(&["exec", "r.toml", "--yes"]).code(1);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(said.contains("/nothing:1") && said.contains("h1"), "{outcome}");
    // https to a registry that speaks http.
    let endpoint = format!("other.runbook.test:{}", bench.registry.port());
    bench.endpoint = endpoint;
    bench.runbook("\"h1\"", "");
    let text = std::fs::read_to_string(bench.env.work().join("r.toml")).expect("it was just written");
    bench.env.write("r.toml", text.replace("with.insecure = true", "with.insecure = false"));
    let outcome = bench.env.run(&["exec", "r.toml", "--yes"]).code(1);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(said.contains("http") && said.contains("insecure"), "{outcome}");
}
