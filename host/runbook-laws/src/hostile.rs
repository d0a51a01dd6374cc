//! Hosts that are not what a plugin expects: silent, flooding, lying.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use runbook_engine::backend::{Backend, CallContext};
use runbook_model::bytes::Bytes;
use runbook_model::call::{
    Act, Answer, CallError, Entry, Exit, FileKind, HttpResponse, KubeLook, Look, Outcome, Output, PodOutput, Prior,
    Response, Stat, Target,
};
use runbook_world::{Weather, World};
use serde_json::{Value, json};

/// Bytes of a flood: more than a plugin should ever take in.
const FLOOD: usize = 2 << 20;

/// How a host behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Nothing is ever answered.
    Silent,
    /// Everything is much longer than it should be.
    Flooding,
    /// Answers are made up; the same ones for the same seed.
    Lying(u64),
}

/// A world that answers so. Changes are carried out in the real one.
pub(crate) struct Hostile {
    world: Arc<World>,
    manner: Manner,
    dice: Mutex<Weather>,
}

impl Hostile {
    pub(crate) fn before(world: &Arc<World>, manner: Manner) -> Arc<dyn Backend> {
        let seed = if let Manner::Lying(seed) = manner { seed } else { 0 };
        Arc::new(Self { world: Arc::clone(world), manner, dice: Mutex::new(Weather::new(seed, 0, false)) })
    }

    fn below(&self, end: usize) -> usize {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(dice.below(end as u64)).unwrap_or_default()
    }

    /// A text that nobody would write, with the secrets that the host was given.
    fn lie(&self, ctx: &CallContext) -> Vec<u8> {
        let secret = || ctx.passwords.0.values().next().cloned().unwrap_or_default();
        match self.below(9) {
            0 => Vec::new(),
            1 => b"\xff\xfe\x00\x9f\x1b[2J\x1b]0;x\x07".to_vec(),
            2 => b"{\"items\": [null, {}, -1, \"\\u0000\"], \"status\": []}".to_vec(),
            3 => b"[[[[[[[[[[".to_vec(),
            4 => b"=\n==\nKey\nKey=\n\n\t\n".to_vec(),
            5 => b"-9223372036854775809 18446744073709551616 NaN 1e999\n".to_vec(),
            6 => format!("{{{{ 7*7 }}}} $(reboot) `reboot` {}\n", secret()).into_bytes(),
            7 => "\u{202e}\u{0}\u{10ffff}\r\n".repeat(3).into_bytes(),
            _ => format!("{}\n", secret()).into_bytes(),
        }
    }

    fn text(&self, ctx: &CallContext) -> Vec<u8> {
        match self.manner {
            Manner::Silent => Vec::new(),
            Manner::Flooding => b"0123456789abcde\n".repeat(FLOOD / 16),
            Manner::Lying(_) => self.lie(ctx),
        }
    }

    fn exit(&self) -> i32 {
        if self.manner == Manner::Flooding { 0 } else { [0, 0, 1, 2, 127, 255, -1][self.below(7)] }
    }

    fn output(&self, ctx: &CallContext) -> Output {
        let exit = match (self.manner, self.below(12)) {
            (Manner::Lying(_), 0) => Exit::Signal("KILL".to_owned()),
            _ => Exit::Code(self.exit()),
        };
        Output { exit, stdout: Bytes(self.text(ctx)), stderr: Bytes(self.text(ctx)) }
    }

    fn object(&self, ctx: &CallContext) -> Value {
        let text = String::from_utf8_lossy(&self.text(ctx)).into_owned();
        let metadata = json!({"name": "x", "namespace": "x", "uid": text, "labels": {"x": text}});
        match self.below(5) {
            0 => json!({}),
            1 => json!({"metadata": null, "spec": [], "status": "x"}),
            2 => json!({"metadata": metadata, "spec": {"replicas": -1, "template": 1}, "status": {"replicas": "many"}}),
            3 => json!({"metadata": metadata, "data": {"x": text}, "status": {"conditions": [null, {}, {"type": 1}]}}),
            _ => json!({"metadata": metadata, "spec": {"replicas": 9_007_199_254_740_993_u64}, "status": null}),
        }
    }

    fn stat(&self) -> Stat {
        let kind = [FileKind::File, FileKind::Directory, FileKind::Link, FileKind::Other][self.below(4)];
        let link_target = (kind == FileKind::Link).then(|| "/".to_owned());
        Stat { kind, size: u64::MAX, mode: 0o7777, owner: String::new(), group: "-1".to_owned(), link_target }
    }

    fn made_up(&self, look: &Look, truth: Answer, ctx: &CallContext) -> Response {
        if let (Manner::Lying(_), 0) = (self.manner, self.below(10)) {
            return Err(CallError::Failed(String::from_utf8_lossy(&self.lie(ctx)).into_owned()));
        }
        let many = if self.manner == Manner::Flooding { 3_000 } else { self.below(3) };
        Ok(match truth {
            Answer::Outputs(outputs) => Answer::Outputs(outputs.iter().map(|_| self.output(ctx)).collect()),
            Answer::Http(_) => Answer::Http(HttpResponse {
                status: [200, 204, 302, 404, 500][self.below(5)],
                headers: vec![("x".to_owned(), "y".repeat(1000)); many],
                body: Bytes(self.text(ctx)),
            }),
            Answer::Bytes(_) => Answer::Bytes(Bytes(self.text(ctx))),
            Answer::Stat(_) => Answer::Stat((self.below(3) > 0).then(|| self.stat())),
            Answer::Entries(_) => {
                Answer::Entries((0..many).map(|n| Entry { name: format!("..{n}"), stat: self.stat() }).collect())
            }
            Answer::Names(_) => Answer::Names(vec![String::from_utf8_lossy(&self.text(ctx)).into_owned(); many.min(9)]),
            Answer::Flag(_) => Answer::Flag(self.below(2) == 0),
            Answer::Object(_) => Answer::Object((self.below(3) > 0).then(|| self.object(ctx))),
            Answer::Objects(_) => Answer::Objects((0..many.min(20)).map(|_| self.object(ctx)).collect()),
            Answer::Pod(_) => Answer::Pod(PodOutput {
                exit_code: self.exit(),
                stdout: Bytes(self.text(ctx)),
                stderr: Bytes(self.text(ctx)),
            }),
            Answer::Text(_) if matches!(look, Look::Kube(KubeLook::Logs { .. } | KubeLook::Uid)) => {
                Answer::Text(String::from_utf8_lossy(&self.text(ctx)).into_owned())
            }
            truth => truth,
        })
    }
}

fn silence(target: &Target) -> CallError {
    CallError::TimedOut(format!("{target} does not answer"))
}

#[async_trait]
impl Backend for Hostile {
    async fn look(&self, target: &Target, look: &Look, ctx: &CallContext) -> Response {
        // What lies on the controller is the user's own.
        if *target == Target::Controller {
            return self.world.look(target, look, ctx).await;
        }
        match self.manner {
            Manner::Silent => Err(silence(target)),
            Manner::Flooding | Manner::Lying(_) => self.made_up(look, self.world.look(target, look, ctx).await?, ctx),
        }
    }

    async fn prior(&self, target: &Target, act: &Act, ctx: &CallContext) -> Result<Prior, CallError> {
        match self.manner {
            Manner::Silent => Err(silence(target)),
            Manner::Flooding | Manner::Lying(_) => self.world.prior(target, act, ctx).await,
        }
    }

    async fn act(&self, target: &Target, act: &Act, prior: &Prior, ctx: &CallContext) -> Response {
        if self.manner == Manner::Silent {
            return Err(silence(target));
        }
        Ok(match self.world.act(target, act, prior, ctx).await? {
            Answer::Outcome(Outcome::Done(_)) => Answer::Outcome(Outcome::Done(self.output(ctx))),
            answer => answer,
        })
    }

    async fn close(&self) {
        self.world.close().await;
    }
}
