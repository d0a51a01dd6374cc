//! Claims and volumes: who is bound to whom, and what becomes of a volume whose claim is gone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Cluster, Key};

/// Says that nobody makes volumes of a class: they are there, or the claim waits.
const STATIC: &str = "kubernetes.io/no-provisioner";

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn volume_key(name: &str) -> Key {
    ["PersistentVolume".to_owned(), String::new(), String::new(), name.to_owned()]
}

/// Whether a volume is kept for a claim of this name.
fn is_for(volume: &Value, claim: &Key) -> bool {
    text(volume, "/spec/claimRef/namespace") == claim[2] && text(volume, "/spec/claimRef/name") == claim[3]
}

impl Cluster {
    /// Binds claims to volumes, makes volumes where a class has a provisioner, and lets go of those whose claim is gone.
    pub(super) fn bind_claims(&mut self) {
        self.release_volumes();
        let mentioned = self.mentioned_claims();
        for (key, claim) in self.of_kind("PersistentVolumeClaim") {
            match text(&claim, "/status/phase") {
                "Bound" => {
                    let named = text(&claim, "/spec/volumeName");
                    if !named.is_empty() && !self.objects.contains_key(&volume_key(named)) {
                        self.put(&key, |claim| claim["status"]["phase"] = json!("Lost"));
                    }
                }
                "Lost" => {}
                _ => self.bind(&key, &claim, mentioned.contains(&(key[2].clone(), key[3].clone()))),
            }
        }
        self.release_volumes();
    }

    fn bind(&mut self, key: &Key, claim: &Value, is_mentioned: bool) {
        let class = text(claim, "/spec/storageClassName");
        let named = text(claim, "/spec/volumeName");
        let volumes = self.of_kind("PersistentVolume");
        let is_free = |volume: &Value| {
            let uid = text(volume, "/spec/claimRef/uid");
            uid.is_empty() || uid == text(claim, "/metadata/uid")
        };
        let fits = |volume: &Value| match named {
            "" => text(volume, "/spec/storageClassName") == class && is_for(volume, key),
            named => {
                text(volume, "/metadata/name") == named && (volume["spec"]["claimRef"].is_null() || is_for(volume, key))
            }
        };
        let found = volumes.iter().find(|(_, volume)| is_free(volume) && fits(volume));
        if let Some((volume, _)) = found {
            return self.tie(key, claim, volume);
        }
        let known = self.objects.get(&["StorageClass", "storage.k8s.io", "", class].map(str::to_owned));
        match known.map(|class| class.live.clone()) {
            // Nobody described how volumes come to be: then this claim has one.
            None if named.is_empty() => self.put(key, |claim| claim["status"]["phase"] = json!("Bound")),
            Some(class) if named.is_empty() && text(&class, "/provisioner") != STATIC => {
                let waits = text(&class, "/volumeBindingMode") == "WaitForFirstConsumer";
                if is_mentioned || !waits {
                    let volume = self.provision(key, claim, &class);
                    return self.tie(key, claim, &volume);
                }
                self.put(key, |claim| claim["status"]["phase"] = json!("Pending"));
            }
            None | Some(_) => self.put(key, |claim| claim["status"]["phase"] = json!("Pending")),
        }
    }

    /// Binds a claim and a volume to each other.
    fn tie(&mut self, key: &Key, claim: &Value, volume: &Key) {
        let [kind, _, namespace, name] = key;
        let uid = &claim["metadata"]["uid"];
        self.put(volume, |volume| {
            volume["spec"]["claimRef"] =
                json!({"apiVersion": "v1", "kind": kind, "namespace": namespace, "name": name, "uid": uid});
            volume["status"]["phase"] = json!("Bound");
        });
        let capacity = self.objects.get(volume).map(|volume| volume.live["spec"]["capacity"].clone());
        self.put(key, |claim| {
            claim["spec"]["volumeName"] = json!(volume[3]);
            claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
            claim["status"] =
                json!({"phase": "Bound", "capacity": capacity, "accessModes": claim["spec"]["accessModes"]});
        });
    }

    /// Makes a volume for a claim, under a name that says for which one: so two runs that do the same come to the same world.
    fn provision(&mut self, key: &Key, claim: &Value, class: &Value) -> Key {
        let base = format!("pvc-{}-{}", key[2], key[3]);
        let names = std::iter::once(base.clone()).chain((2..).map(|n| format!("{base}-{n}")));
        let name = names.into_iter().find(|name| !self.objects.contains_key(&volume_key(name))).unwrap_or(base);
        let policy = class["reclaimPolicy"].as_str().unwrap_or("Delete");
        self.put_new(json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {
                "name": name,
                "annotations": { "pv.kubernetes.io/provisioned-by": class["provisioner"] },
            },
            "spec": {
                "accessModes": claim["spec"]["accessModes"],
                "capacity": claim["spec"]["resources"]["requests"],
                "persistentVolumeReclaimPolicy": policy,
                "storageClassName": class["metadata"]["name"],
            },
        }));
        self.volumes.remove(&name);
        volume_key(&name)
    }

    /// A volume whose claim is gone is kept, or goes with its data.
    fn release_volumes(&mut self) {
        let claims: BTreeSet<String> = self
            .of_kind("PersistentVolumeClaim")
            .iter()
            .map(|(_, claim)| text(claim, "/metadata/uid").to_owned())
            .collect();
        for (key, volume) in self.of_kind("PersistentVolume") {
            let phase = match text(&volume, "/spec/claimRef/uid") {
                "" => "Available",
                uid if claims.contains(uid) => "Bound",
                _ => "Released",
            };
            let is_deleted = text(&volume, "/spec/persistentVolumeReclaimPolicy") == "Delete"
                && !volume["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"].is_null();
            match phase == "Released" && is_deleted {
                true => self.drop_object(&key),
                false => self.put(&key, |volume| volume["status"]["phase"] = json!(phase)),
            }
        }
    }

    /// Where what is in a claim's volume is kept: under the volume's name, or the claim's where no volume is described.
    pub(super) fn place_of(&self, namespace: &str, claim: &str) -> String {
        let key = ["PersistentVolumeClaim", "", namespace, claim].map(str::to_owned);
        let volume = self.objects.get(&key).map(|claim| text(&claim.live, "/spec/volumeName")).unwrap_or_default();
        match self.objects.contains_key(&volume_key(volume)) {
            true => volume.to_owned(),
            false => format!("{namespace}/{claim}"),
        }
    }

    /// Namespace and name of the claims that pods speak of.
    fn mentioned_claims(&self) -> BTreeSet<(String, String)> {
        self.claims_of_pods(|_| true)
    }

    /// Namespace and name of the claims that pods hold which have not ended.
    pub(super) fn used_claims(&self) -> BTreeSet<(String, String)> {
        self.claims_of_pods(|pod| !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed"))
    }

    fn claims_of_pods(&self, counts: impl Fn(&Value) -> bool) -> BTreeSet<(String, String)> {
        let pods = self.objects.iter().filter(|(key, object)| key[0] == "Pod" && counts(&object.live));
        let claims = pods.flat_map(|(key, pod)| {
            claims(&pod.live).into_iter().map(|claim| (key[2].clone(), claim)).collect::<Vec<_>>()
        });
        claims.collect()
    }

    /// Whether all claims of a pod are bound.
    pub(super) fn has_volumes(&self, namespace: &str, pod: &Value) -> bool {
        claims(pod).iter().all(|claim| {
            let key = ["PersistentVolumeClaim", "", namespace, claim].map(str::to_owned);
            self.objects.get(&key).is_some_and(|claim| claim.live["status"]["phase"] == "Bound")
        })
    }
}

/// The claims of a pod.
fn claims(pod: &Value) -> Vec<String> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str()).map(str::to_owned).collect()
}
