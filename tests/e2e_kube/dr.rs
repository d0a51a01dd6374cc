//! The recovery that the project is for: `runbooks/dr.toml`, from the first look to a second run that finds nothing.

use std::collections::BTreeMap;

use runbook_tests::{
    Generation, LOGIN_FREE, Microk8s, Outcome, PulumiProject, Registry, TestEnv, cuts, every_cut, tests_dir,
};
use serde_json::Value;

use crate::bench::{BUSYBOX, Bench, assert_same, noise};

/// A house whose cluster has just come up again: a node that does not know its registry, volumes on the old storage, no applications.
struct House {
    bench: Bench,
    registry: Registry,
    nodes: Microk8s,
    project: PulumiProject,
    sound: Vec<u8>,
}

impl House {
    fn new() -> Self {
        let mut bench = Bench::with_chime();
        let (registry, nodes) = (Registry::start(), Microk8s::start(1, Generation::CertsD));
        let node = nodes.lab().host("h1");
        nodes.set_kubeconfig(node, &bench.cluster.kubeconfig());
        bench.env = TestEnv::new().with_standins().var("PULUMI_CONFIG_PASSPHRASE", "correct-horse");
        let project = PulumiProject::create(&bench.env.work().join("homeslice"));
        let sound = noise(3 << 20, 5);
        bench.env.write("chime.mp3", &sound);
        // The file as it is, but for what an SSH login of the lab needs: no home has this port and this key.
        let text = std::fs::read_to_string(tests_dir().join("../runbooks/dr.toml")).expect("it is part of the project");
        let user = "user = \"{{ inputs.node_user }}\"";
        assert!(text.contains(user), "{text}");
        let login = format!(
            "{user}\nport = {}\nidentity_file = \"{}\"\nknown_hosts = \"{}\"",
            node.port(),
            nodes.lab().identity().display(),
            nodes.lab().known_hosts().display()
        );
        bench.env.write("dr.toml", text.replace(user, &login));
        Self { bench, registry, nodes, project, sound }
    }

    fn args(&self, verb: &str) -> Vec<String> {
        let mut args = vec![verb.to_owned(), "dr.toml".to_owned()];
        let vars = [
            ("primary_ip", self.nodes.lab().host("h1").address().to_string()),
            ("node_user", LOGIN_FREE.to_owned()),
            ("registry", self.registry.endpoint()),
            ("namespace", self.bench.cluster.namespace().to_owned()),
            ("copy_image", BUSYBOX.to_owned()),
            ("seed_image", BUSYBOX.to_owned()),
            ("pulumi_backend", self.project.backend()),
        ];
        args.extend(vars.iter().flat_map(|(name, value)| ["--var".to_owned(), format!("{name}={value}")]));
        if verb == "exec" {
            args.push("--yes".to_owned());
        }
        args
    }

    fn run(&self, verb: &str) -> Outcome {
        let args = self.args(verb);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.bench.env.run(&args).nowhere("correct-horse").nowhere("hunter2")
    }

    /// All that the runbook is to bring back is there.
    fn assert_is_back(&self, said: &str) {
        self.bench.settle();
        let claim = self.bench.cluster.get("pvc/chime").expect("it is there");
        assert_eq!(claim["spec"]["storageClassName"], "openebs-hostpath", "{said}");
        assert_eq!(
            std::fs::read(self.bench.volume("new1").join("chime.mp3")).ok().as_ref(),
            Some(&self.sound),
            "{said}"
        );
        assert_eq!(self.project.model()["world"], self.project.model()["program"], "{said}");
        let node = self.nodes.lab().host("h1");
        let hosts =
            node.path(format!("/var/snap/microk8s/current/args/certs.d/{}/hosts.toml", self.registry.endpoint()));
        assert!(std::fs::read_to_string(hosts).is_ok_and(|text| text.contains("http://")), "{said}");
    }

    fn nothing_is_left_to_do(&self) {
        let (before, asked) = (self.bench.objects(), self.bench.asked());
        let again = self.run("exec").ok();
        assert!(again.stdout.contains(" 0 changed, "), "{again}");
        assert_eq!(self.bench.changes_since(asked), Vec::<String>::new(), "{again}");
        assert_same(&before, &self.bench.objects());
    }
}

#[test]
fn the_house_comes_back() {
    let house = House::new();
    let _ = house.bench.env.run(&["validate", "dr.toml"]).ok();
    let before: BTreeMap<String, Value> = house.bench.objects();
    let plan = house.run("plan").ok();
    assert!(plan.stdout.contains(" 0 failed"), "{plan}");
    assert_same(&before, &house.bench.objects());
    assert_eq!(house.project.model()["world"], serde_json::json!({}));

    let done = house.run("exec").ok();
    assert!(done.stdout.contains("succeeded: "), "{done}");
    house.assert_is_back(&done.to_string());
    house.nothing_is_left_to_do();
}

#[test]
fn it_comes_back_although_the_laptop_dies_on_the_way() {
    // A cluster has room for one house.
    let all = {
        let whole = House::new();
        let _ = whole.run("exec").ok();
        cuts(&whole.bench.env.journal())
    };
    // Each of them is a house of its own, so one of them that nobody chose, unless there is time for all.
    let chosen =
        if every_cut() { &all[..] } else { std::slice::from_ref(&all[std::process::id() as usize % all.len()]) };
    for cut in chosen {
        let house = House::new();
        let args = house.args("exec");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        house.bench.env.cut_and_resume(&args, cut);
        house.assert_is_back(cut);
        house.nothing_is_left_to_do();
    }
}
