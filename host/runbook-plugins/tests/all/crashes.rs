//! What breaks a guest, and what is said of it.

use runbook_engine::plugin::PluginError;

use crate::support::misbehave;

async fn crash(how: &str) -> String {
    match misbehave(how).await.unwrap_err() {
        PluginError::Crashed { message } => message,
        other => panic!("{how}: {other:?}"),
    }
}

#[tokio::test]
async fn a_panic_says_why_and_where() {
    let message = crash("panic").await;
    for part in ["unreachable", "the reason of the panic", "src/misbehave.rs:", "probe::misbehave::run"] {
        assert!(message.contains(part), "{part} is not in:\n{message}");
    }
    for part in ["std::", "core::", "RUST_BACKTRACE"] {
        assert!(!message.contains(part), "{part} is in:\n{message}");
    }
}

#[tokio::test]
async fn endless_recursion_is_named_as_a_possibility() {
    let message = crash("recurse").await;
    assert!(message.contains("endless recursion") && message.contains("recurse"), "{message}");
}

#[tokio::test]
async fn an_exit_says_its_code() {
    let message = crash("exit").await;
    assert!(message.contains("exit code 3") || message.contains("exit code 1"), "{message}");
}

#[tokio::test]
async fn handles_that_nobody_gave_are_no_handles() {
    for how in ["forge", "use after drop", "confuse"] {
        let message = crash(how).await;
        assert!(message.contains("handle"), "{how}: {message}");
    }
}

#[tokio::test]
async fn a_host_goes_on_after_crashes() {
    crash("panic").await;
    misbehave("print").await.unwrap();
}
