//! The recovery that the project is for: `runbooks/dr.toml`, from the first look to a second run that finds nothing.

use runbook_tests::{Generation, LOGIN_FREE, Microk8s, PulumiProject, Registry, TestEnv, tests_dir};

use crate::bench::{BUSYBOX, Bench, noise};

#[test]
fn the_house_comes_back() {
    let mut bench = Bench::with_chime();
    let registry = Registry::start();
    let nodes = Microk8s::start(1, Generation::CertsD);
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

    let vars = [
        format!("primary_ip={}", node.address()),
        format!("node_user={LOGIN_FREE}"),
        format!("registry={}", registry.endpoint()),
        format!("namespace={}", bench.cluster.namespace()),
        format!("copy_image={BUSYBOX}"),
        format!("seed_image={BUSYBOX}"),
        format!("pulumi_backend={}", project.backend()),
    ];
    let run = |verb: &str, more: &[&str]| {
        let mut args = vec![verb, "dr.toml"];
        args.extend(more);
        if verb != "validate" {
            args.extend(vars.iter().flat_map(|var| ["--var", var.as_str()]));
        }
        bench.env.run(&args).nowhere("correct-horse").nowhere("hunter2")
    };
    let _ = run("validate", &[]).ok();
    let before = bench.objects();
    let plan = run("plan", &[]).ok();
    assert!(plan.stdout.contains(" 0 failed"), "{plan}");
    crate::bench::assert_same(&before, &bench.objects());
    assert_eq!(project.model()["world"], serde_json::json!({}));

    let done = run("exec", &["--yes"]).ok();
    assert!(done.stdout.contains("succeeded: "), "{done}");
    bench.settle();
    let claim = bench.cluster.get("pvc/chime").expect("it is there");
    assert_eq!(claim["spec"]["storageClassName"], "openebs-hostpath");
    assert_eq!(std::fs::read(bench.volume("new1").join("chime.mp3")).ok().as_ref(), Some(&sound));
    assert_eq!(project.model()["world"], project.model()["program"]);
    let hosts = node.path(format!("/var/snap/microk8s/current/args/certs.d/{}/hosts.toml", registry.endpoint()));
    assert!(std::fs::read_to_string(hosts).is_ok_and(|text| text.contains("http://")), "{done}");

    let (before, asked) = (bench.objects(), bench.asked());
    let again = run("exec", &["--yes"]).ok();
    assert!(again.stdout.contains(" 0 changed, "), "{again}");
    assert_eq!(bench.changes_since(asked), Vec::<String>::new(), "{again}");
    crate::bench::assert_same(&before, &bench.objects());
}
