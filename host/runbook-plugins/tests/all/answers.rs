//! What a plugin gives back: errors, outputs, post-conditions; and answers that make no sense.

use runbook_engine::plugin::PluginError;
use runbook_model::call::{Answer, CallError};
use serde_json::json;

use crate::road::FakeRoad;
use crate::support::{SOON, call, host, limits, misbehave};

#[tokio::test]
async fn errors_pass_through_a_guest_unchanged() {
    let kinds: [fn(String) -> CallError; 8] = [
        CallError::Denied,
        CallError::Unknown,
        CallError::NotFound,
        CallError::Unreachable,
        CallError::TimedOut,
        CallError::Conflict,
        CallError::Invalid,
        CallError::Failed,
    ];
    let plugins = host(limits()).plugins();
    for kind in kinds {
        let error = kind("because".to_owned());
        let given = error.clone();
        let road = FakeRoad::with(move |_| Some(Err(given.clone()))).into_arc();
        let converged = plugins.converge(call("fail", "", road.clone(), SOON)).await;
        assert_eq!(converged, Err(PluginError::Call(error.clone())));
        let verified = plugins.verify(call("fail", "", road, SOON)).await;
        assert_eq!(verified, Err(PluginError::Call(error)));
    }
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_is_said_to_be_our_fault() {
    let road = FakeRoad::with(|_| Some(Ok(Answer::Flag(true)))).into_arc();
    let error = host(limits()).plugins().converge(call("fail", "", road, SOON)).await.unwrap_err();
    assert!(
        matches!(&error, PluginError::Call(CallError::Failed(text)) if text.starts_with("internal error")),
        "{error}"
    );
}

#[tokio::test]
async fn a_call_that_breaks_off_is_said_to_be_our_fault() {
    let road = FakeRoad::with(|_| panic!("a defect of a backend")).into_arc();
    let error = host(limits()).plugins().converge(call("fail", "", road, SOON)).await.unwrap_err();
    assert!(
        matches!(&error, PluginError::Call(CallError::Failed(text)) if text.starts_with("internal error")),
        "{error}"
    );
}

#[tokio::test]
async fn outputs_must_be_what_the_manifest_says() {
    for (how, part) in [
        ("no json", "are not JSON"),
        ("no object", "are not a JSON object"),
        ("not declared", "surprise"),
        ("wrong type", "/results"),
        ("large", "larger than 1024 KiB"),
    ] {
        let error = misbehave(how).await.unwrap_err();
        assert!(matches!(error, PluginError::BadAnswer { .. }), "{how}: {error}");
        assert!(error.to_string().contains(part), "{how}: {error}");
    }
}

#[tokio::test]
async fn verify_says_what_is_wrong() {
    let plugins = host(limits()).plugins();
    let verify = |action, how| plugins.verify(call(action, how, FakeRoad::new().into_arc(), SOON));
    assert_eq!(verify("everything", "").await, Ok(Vec::new()));
    assert_eq!(verify("misbehave", "cheat").await, Ok(vec!["told to cheat".to_owned()]));
    let many = verify("misbehave", "many").await.unwrap();
    assert_eq!((many.len(), many[100].as_str()), (101, "and 900 more"));
}

#[tokio::test]
async fn unknown_plugins_and_actions_are_named() {
    let plugins = host(limits()).plugins();
    let road = FakeRoad::new().into_arc();
    let mut other = call("everything", "", road.clone(), SOON);
    other.plugin = "nothing".to_owned();
    let error = plugins.converge(other).await.unwrap_err();
    assert!(error.to_string().contains("there is no plugin named `nothing`"), "{error}");
    let error = plugins.verify(call("nothing", "", road, SOON)).await.unwrap_err();
    assert!(error.to_string().contains("`probe` has no action `nothing`"), "{error}");
}

#[tokio::test]
async fn inputs_arrive() {
    let mut with = call("misbehave", "", FakeRoad::new().into_arc(), SOON);
    with.inputs = json!({ "how": "dance" });
    let error = host(limits()).plugins().converge(with).await.unwrap_err();
    assert_eq!(error, PluginError::Call(CallError::Invalid("cannot dance".to_owned())));
}
