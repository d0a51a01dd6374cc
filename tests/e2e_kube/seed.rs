//! `volume/seed`: a file of the controller gets into a volume.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::bench::{Bench, noise};

const CLAIM: &str = r#"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: seeded, namespace: "${NAMESPACE}"}
spec:
  storageClassName: openebs-hostpath
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 256Mi}}
"#;

const SEED: &str = r#"
[[step]]
id = "seed"
uses = "volume/seed"
cluster = "lab"
with = { namespace = "${NAMESPACE}", claim = "seeded", source = "./chime.mp3", path = "www/", owner = 1000, group = 33, mode = "0640" }
"#;

const READER: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: reader, namespace: "${NAMESPACE}"}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: web
      image: docker.io/library/busybox:1.35
      command: [sleep, "1000000"]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: seeded}}]
"#;

fn sum(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()));
    hex::encode(Sha256::digest(bytes))
}

#[test]
fn a_file_too_large_for_a_config_map_gets_into_a_volume() {
    let bench = Bench::new();
    let cluster = &bench.cluster;
    cluster.apply("volumes.yaml");
    cluster.apply_text(CLAIM);
    // As an mp3 begins, and then 24 MiB and a bit that nothing compresses.
    let sound = [b"ID3\x04\0\0\0\0\0\0\xff\xfb".as_slice(), &noise((24 << 20) + 77, 4)].concat();
    let source = bench.env.write("chime.mp3", &sound);
    let file = format!("--from-file={}", source.display());
    assert_ne!(
        cluster.try_kubectl(&["create", "configmap", "chime", &file]).code,
        Some(0),
        "a ConfigMap does not hold it"
    );
    bench.runbook(SEED);

    let plan = bench.plan().ok();
    assert!(plan.stdout.contains("would change") && plan.stdout.contains("www/chime.mp3"), "{plan}");
    assert_eq!(bench.changes_since(0), Vec::<String>::new(), "{plan}");
    bench.exec().ok().last_line("succeeded: 1 steps, 1 changed, 0 unchanged, 0 skipped, 0 failed");
    let there = bench.volume("new2").join("www/chime.mp3");
    let right = || {
        assert_eq!(sum(&there), sum(&source));
        let meta = there.metadata().expect("it is there");
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 1000, 33));
        let mut left = std::fs::read_dir(bench.volume("new2").join("www")).expect("the folder is there").flatten();
        assert_eq!(left.next().map(|e| e.file_name()), Some("chime.mp3".into()));
        assert!(left.next().is_none(), "nothing lies beside it");
        assert_eq!(cluster.get("pod/runbook-seed-seeded-files"), None, "the seeding pod is gone");
    };
    right();
    // Nobody has it mounted: what the claim says decides, and no pod is started for it.
    bench.exec_again_changes_nothing();

    // As soon as somebody has it mounted, the files themselves decide.
    cluster.apply_text(READER);
    cluster.wait_for("pod/reader", "runs", |p| p["status"]["phase"] == "Running");
    bench.exec_again_changes_nothing();
    let mut altered = sound;
    altered[12_345_678] ^= 1;
    std::fs::write(&there, altered).expect("the volume can be written to");
    std::fs::set_permissions(&there, PermissionsExt::from_mode(0o600)).expect("the mode can be set");
    bench.plan().ok().last_line("plan: 1 steps, 1 would change, 0 may change, 0 unchanged, 0 skipped, 0 failed");
    assert_ne!(sum(&there), sum(&source), "a plan repairs nothing");
    bench.exec().ok();
    right();
    // Mode alone.
    std::fs::set_permissions(&there, PermissionsExt::from_mode(0o666)).expect("the mode can be set");
    bench.exec().ok();
    right();
    bench.exec_again_changes_nothing();
}

#[test]
fn a_claim_that_is_not_there_is_said() {
    let bench = Bench::new();
    bench.env.write("chime.mp3", b"ding");
    bench.runbook(SEED);
    let outcome = bench.exec().code(1);
    assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains("there is no claim"), "{outcome}");
    bench.cluster.apply_text(CLAIM);
    bench.runbook(&SEED.replace("./chime.mp3", "./chyme.mp3"));
    let outcome = bench.exec();
    assert_ne!(outcome.code, Some(0), "{outcome}");
    assert!(format!("{}{}", outcome.stdout, outcome.stderr).contains("chyme.mp3"), "{outcome}");
    assert_eq!(bench.changes_since(0), Vec::<String>::new());
}
