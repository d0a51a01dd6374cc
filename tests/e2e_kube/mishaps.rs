//! Answers of an API server that are lost, or say that it cannot now: a change that was made is not made again, and one that was not is.

use runbook_tests::{Gateway, Mishap};

use crate::bench::Bench;

const STEPS: &str = r#"
[[step]]
id = "first"
uses = "core/kube-apply"
cluster = "lab"
with = { manifest = """
apiVersion: v1
kind: ConfigMap
metadata: {name: first, namespace: ${NAMESPACE}}
data: {porch: "on"}
""" }

[[step]]
id = "second"
uses = "core/kube-apply"
cluster = "lab"
with = { manifest = """
apiVersion: v1
kind: ConfigMap
metadata: {name: second, namespace: ${NAMESPACE}}
data: {porch: "on"}
""" }
"#;

#[test]
fn a_change_is_made_once_whatever_is_answered() {
    for mishap in [
        Mishap::Refused(429),
        Mishap::Refused(500),
        Mishap::Refused(503),
        Mishap::Refused(410),
        Mishap::Unheard(500),
        Mishap::Unheard(504),
        Mishap::Unheard(410),
        Mishap::Cut,
    ] {
        let bench = Bench::new();
        let gateway = Gateway::to(&bench.cluster.kubeconfig());
        let kubeconfig = bench.env.write("kubeconfig", gateway.kubeconfig());
        bench.runbook_with(&format!("kubeconfig = \"{}\"", kubeconfig.display()), STEPS);
        let asked = bench.asked();
        let namespace = bench.cluster.namespace();
        gateway.next(&format!("/api/v1/namespaces/{namespace}/configmaps"), mishap);
        let mut out = bench.exec();
        let mut resumed = 0;
        while out.code != Some(0) {
            assert!(resumed < 3 && out.code == Some(1), "{mishap:?}, resumed {resumed} times: {out}");
            out = bench.resume();
            resumed += 1;
        }
        assert!(gateway.is_through(), "{mishap:?}: {out}");
        // The server was asked for each once, and never again for what it had done.
        let made = bench.changes_since(asked);
        for name in ["first", "second"] {
            let times = made.iter().filter(|line| line.contains(&format!("/configmaps/{name}?"))).count();
            assert_eq!(times, 1, "{mishap:?}, resumed {resumed} times: {made:?}");
        }
        for name in ["first", "second"] {
            let map = bench.cluster.get(&format!("configmap/{name}")).expect("it was made");
            assert_eq!(map["data"]["porch"], "on", "{mishap:?}");
        }
        bench.exec_again_changes_nothing();
    }
}
