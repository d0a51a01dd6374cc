//! What a guest finds around it: nothing but the run.

use runbook_model::call::{CallError, Level};

use crate::road::FakeRoad;
use crate::support::{SOON, limits, misbehave, misbehave_on, results};

#[tokio::test]
async fn no_files_no_sockets_no_environment() {
    let outputs = misbehave("ambient").await.unwrap();
    assert_eq!(
        results(&outputs),
        [
            "file true",
            "folder true",
            "write true",
            "connect true",
            "listen true",
            "udp true",
            "lookup true",
            "env 0",
            "args 0",
            "stdin Ok(\"\")",
        ]
    );
}

#[tokio::test]
async fn paths_are_left_to_the_broker_and_nonsense_is_not_passed_on() {
    let road = FakeRoad::with(|_| Some(Err(CallError::Denied("not granted".to_owned())))).into_arc();
    let outputs = misbehave_on("climb", limits(), road.clone(), SOON).await.unwrap();
    let results = results(&outputs);
    assert!(results[0].contains("Denied") && results[1].contains("Denied"), "{results:?}");
    assert!(results[2].contains("Invalid") && results[2].contains("NUL"), "{results:?}");
    assert!(results[3].contains("Invalid") && results[3].contains("8000 bytes"), "{results:?}");
    assert_eq!(road.requests().len(), 2);
}

#[tokio::test]
async fn time_and_chance_are_the_runs() {
    let chance = async |seed| {
        let road = FakeRoad::new().seeded(seed).into_arc();
        misbehave_on("chance", limits(), road, SOON).await.unwrap()
    };
    let (first, again, other) = (chance(1).await, chance(1).await, chance(2).await);
    assert_eq!(results(&first)[..2], ["now 1700000000123", "slept true"]);
    assert_eq!(first, again);
    assert_ne!(results(&first)[2], results(&other)[2]);
}

#[tokio::test]
async fn output_goes_into_the_journal() {
    let road = FakeRoad::new().into_arc();
    misbehave_on("print", limits(), road.clone(), SOON).await.unwrap();
    assert_eq!(road.logged(Level::Debug), ["to stdout", "to stderr"]);

    let road = FakeRoad::new().into_arc();
    misbehave_on("write a lot", limits(), road.clone(), SOON).await.unwrap();
    let logged = road.logged(Level::Debug);
    assert_eq!(logged.len(), 201);
    assert_eq!((logged[0].as_str(), logged[200].as_str()), ("(earlier output left out)", "line 99999"));
}
