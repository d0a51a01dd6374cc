//! Where capability calls run, and what becomes of them there.

use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use runbook_engine::plugin::Road;
use runbook_model::call::{Answer, CallError, Request, Response};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{SOON, call, host, limits};

/// What a road does with a call.
enum Does {
    /// Connects, before and after it has waited: both need the runtime that has connections.
    Connect,
    Panic,
    PanicLater,
}

struct Odd(Does);

#[async_trait]
impl Road for Odd {
    async fn call(&self, _: Request) -> Response {
        match self.0 {
            Does::Connect => {
                let text = |error: std::io::Error| CallError::Failed(error.to_string());
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(text)?;
                let address = listener.local_addr().map_err(text)?;
                let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
                near.and(far).map_err(text)?;
                tokio::spawn(async {}).await.map_err(|error| CallError::Failed(error.to_string()))?;
                Ok(Answer::Unit)
            }
            Does::Panic => panic!("at once"),
            Does::PanicLater => {
                tokio::task::yield_now().await;
                panic!("later")
            }
        }
    }

    fn targets(&self, _: &str) -> Vec<String> {
        Vec::new()
    }

    fn cluster(&self) -> Option<String> {
        None
    }

    fn now_ms(&self) -> u64 {
        0
    }

    fn seed(&self) -> u64 {
        0
    }
}

async fn pause(does: Does) -> Result<Value, String> {
    let host = host(limits());
    let converged = host.plugins().converge(call("misbehave", "pause", Arc::new(Odd(does)), SOON)).await;
    converged.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_call_uses_the_runtime_of_the_caller() {
    pause(Does::Connect).await.unwrap();
}

#[tokio::test]
async fn a_call_that_panics_is_an_error_of_that_call() {
    for does in [Does::Panic, Does::PanicLater] {
        let error = pause(does).await.unwrap_err();
        assert!(error.contains("internal error: the call broke off") && error.contains("panicked"), "{error}");
    }
}
