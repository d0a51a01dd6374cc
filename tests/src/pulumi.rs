//! A project for the stand-in for `pulumi`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::tools::{put, read};

/// A Pulumi project with a file backend and a stack `prod`; what the keys of its model mean is at the top of `tests/standins/pulumi`.
#[derive(Debug)]
pub struct PulumiProject {
    dir: PathBuf,
}

/// The passphrase of the stack.
const PASSPHRASE: &str = "correct-horse";

impl PulumiProject {
    /// Writes the project `homeslice` into a directory: a program of a config map, a claim and a Deployment, nothing of which exists.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn create(dir: &Path) -> Self {
        let project = Self { dir: dir.to_owned() };
        put(
            &dir.join("Pulumi.yaml"),
            "name: homeslice\nruntime: python\ndescription: The things in the house\n",
            0o644,
        );
        put(
            &dir.join("Pulumi.prod.yaml"),
            "encryptionsalt: v1:XXXX\nconfig:\n  homeslice:namespace: homeslice\n",
            0o644,
        );
        project.set_model(&json!({
            "passphrase": PASSPHRASE,
            "delay": 0.02,
            "config": { "homeslice:namespace": "homeslice", "homeslice:token": "[secret]" },
            "program": {
                Self::urn("kubernetes:core/v1:ConfigMap", "switches"): { "data": "1" },
                Self::urn("kubernetes:core/v1:PersistentVolumeClaim", "chime"): { "size": "256Mi" },
                Self::urn("kubernetes:apps/v1:Deployment", "buttons"): { "image": "buttons:7" },
            },
            "world": {},
            "outputs": { "chime mp3": "remember to manually populate chime.mp3", "adminPassword": { "secret": "hunter2-of-the-stack" } },
        }));
        project.set_state(&json!({ "resources": {}, "pending": [] }));
        project
    }

    /// `urn:pulumi:prod::homeslice::KIND::NAME`.
    pub fn urn(kind: &str, name: &str) -> String {
        format!("urn:pulumi:prod::homeslice::{kind}::{name}")
    }

    /// The project's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `PULUMI_BACKEND_URL`.
    pub fn backend(&self) -> String {
        format!("file://{}", self.dir.join("state").display())
    }

    /// The stack's passphrase.
    pub fn passphrase(&self) -> &'static str {
        PASSPHRASE
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join("state/.pulumi/stacks/homeslice/prod.json")
    }

    fn lock_path(&self) -> PathBuf {
        self.dir.join("state/.pulumi/locks/organization/homeslice/prod/bf4d21ea-53b0-42c4-b03d-a6c88daad481.json")
    }

    /// The model: program, world and the rest.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    pub fn model(&self) -> Value {
        serde_json::from_str(&read(&self.dir.join("Pulumi.model.json"))).expect("the model is JSON")
    }

    /// Sets the model.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn set_model(&self, model: &Value) {
        put(&self.dir.join("Pulumi.model.json"), model.to_string(), 0o644);
    }

    /// Sets one key of the model.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn set(&self, key: &str, value: Value) {
        let mut model = self.model();
        model[key] = value;
        self.set_model(&model);
    }

    /// The stack's state: `resources` and `pending`.
    ///
    /// # Panics
    ///
    /// When it cannot be read.
    pub fn state(&self) -> Value {
        serde_json::from_str(&read(&self.state_path())).expect("the state is JSON")
    }

    /// Sets the stack's state.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn set_state(&self, state: &Value) {
        put(&self.state_path(), state.to_string(), 0o644);
    }

    /// Locks the stack, as a process with this id that did not take its lock away.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    pub fn lock(&self, pid: u32, hostname: &str) {
        let lock = json!({ "pid": pid, "username": "mp", "hostname": hostname, "timestamp": "2026-09-23T13:21:31Z" });
        put(&self.lock_path(), lock.to_string(), 0o644);
    }

    /// Whether that lock is there.
    pub fn is_locked(&self) -> bool {
        self.lock_path().exists()
    }

    /// The arguments of all calls of the stand-in so far.
    ///
    /// # Panics
    ///
    /// When the log is not what the stand-in writes.
    pub fn calls(&self) -> Vec<Vec<String>> {
        let log = std::fs::read_to_string(self.dir.join("Pulumi.calls.log")).unwrap_or_default();
        let line = |l: &str| {
            serde_json::from_str::<Value>(l).ok().and_then(|v| serde_json::from_value(v["argv"].clone()).ok())
        };
        log.lines().map(|l| line(l).expect("the stand-in writes JSON")).collect()
    }
}
