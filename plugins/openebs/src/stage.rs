//! Which phase is due, from the state of the cluster alone.

use runbook_sdk::{Error, Kind, Result, conflict};

use crate::claim::Claim;
use crate::marks;
use crate::volume::Volume;

/// How far a migration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The data lies on the claim's old volume: copy it, then switch. A volume that an earlier try filled is used again.
    Copy {
        /// The volume of the earlier try.
        again: Option<String>,
    },
    /// The data lies on this volume; the claim is yet to be made on it.
    Switch {
        /// The new volume.
        volume: String,
    },
    /// The claim is on the class that is wanted.
    Done,
}

/// Says how far the migration of a claim is. `volumes` are all volumes of the cluster.
///
/// # Errors
///
/// `not-found` where there is no claim and no migration that would make one; `conflict` where the claim is in a state that a
/// person has to look at first.
pub(crate) fn of(key: &str, claim: Option<&Claim>, volumes: &[Volume], to_class: &str) -> Result<Stage> {
    let made_for = |volume: &&Volume| {
        volume.annotation(marks::FOR) == Some(key) && volume.annotation(marks::CLAIM).is_some() && !volume.is_leaving()
    };
    let mut filled = volumes.iter().filter(made_for);
    let new = filled.next();
    if let (Some(one), Some(other)) = (new, filled.next()) {
        conflict!(
            "the volumes {} and {} both say that they were filled for the claim {key}: remove the annotation {} from the one \
             whose data is not wanted",
            one.name(),
            other.name(),
            marks::FOR
        );
    }
    let switch = |volume: &Volume| Stage::Switch { volume: volume.name().to_owned() };
    match (claim, new) {
        (None, Some(new)) => Ok(switch(new)),
        (None, None) => Err(Error::new(
            Kind::NotFound,
            format!("there is no claim {key}: check `namespace` and `claim` of the step"),
        )),
        (Some(claim), Some(new)) if claim.is_leaving() => {
            if claim.volume() == new.name() || new.annotation(marks::FROM) == Some(claim.volume()) {
                Ok(switch(new))
            } else {
                conflict!("claim {key} is being deleted, and its volume {} was not copied", claim.volume())
            }
        }
        (Some(claim), None) if claim.is_leaving() => {
            conflict!("claim {key} is being deleted, and waits for the pods that use it: nothing can be moved")
        }
        (Some(claim), new) if claim.is_bound() => match new {
            // Made anew by somebody else, on the old class, and bound to the volume that was kept for it.
            Some(new) if claim.volume() == new.name() && claim.class() != to_class => Ok(switch(new)),
            _ if claim.class() == to_class => Ok(Stage::Done),
            new => {
                let again = new.filter(|new| new.annotation(marks::FROM) == Some(claim.volume()));
                Ok(Stage::Copy { again: again.map(|new| new.name().to_owned()) })
            }
        },
        // Made, and not bound yet; or made anew by a StatefulSet, and empty.
        (Some(claim), Some(new)) if claim.phase() == "Pending" => Ok(switch(new)),
        (Some(claim), _) if claim.phase() == "Lost" => {
            conflict!("claim {key} is Lost: its volume {} is gone, and there is nothing to move", claim.volume())
        }
        (Some(claim), _) => conflict!(
            "claim {key} is {}, not Bound: a claim without a volume has no data to move (on a class that waits for the first \
             consumer it is bound when its first pod starts)",
            claim.phase()
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::claim::tests::bound;
    use crate::volume::tests::hostpath;

    const KEY: &str = "homeslice/chime";
    const TO: &str = "openebs-hostpath";

    fn filled(name: &str, from: &str) -> Volume {
        let mut volume = hostpath();
        volume.0["metadata"] =
            json!({ "name": name, "annotations": { marks::FOR: KEY, marks::CLAIM: "{}", marks::FROM: from } });
        volume
    }

    fn old() -> Claim {
        bound("chime", "microk8s-hostpath", "pvc-1")
    }

    fn with(mut claim: Claim, pointer: &str, value: &str) -> Claim {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        claim.0.pointer_mut(parent).unwrap()[field] = json!(value);
        claim
    }

    fn switch() -> Stage {
        Stage::Switch { volume: "pvc-2".into() }
    }

    #[test]
    fn a_migration_goes_on_from_wherever_it_was() {
        let new = [hostpath(), filled("pvc-2", "pvc-1")];
        let fresh = [hostpath()];
        let stage = |claim: Option<&Claim>, volumes: &[Volume]| of(KEY, claim, volumes, TO);

        assert_eq!(stage(Some(&old()), &fresh), Ok(Stage::Copy { again: None }));
        assert_eq!(stage(Some(&old()), &new), Ok(Stage::Copy { again: Some("pvc-2".into()) }));
        assert_eq!(
            stage(Some(&with(old(), "/metadata/deletionTimestamp", "2026-01-01T00:00:00Z")), &new),
            Ok(switch())
        );
        assert_eq!(stage(None, &new), Ok(switch()));
        let pending = with(bound("chime", TO, "pvc-2"), "/status/phase", "Pending");
        assert_eq!(stage(Some(&pending), &new), Ok(switch()));
        let by_statefulset = with(with(old(), "/status/phase", "Pending"), "/spec/volumeName", "");
        assert_eq!(stage(Some(&by_statefulset), &new), Ok(switch()));
        assert_eq!(stage(Some(&bound("chime", "microk8s-hostpath", "pvc-2")), &new), Ok(switch()));
        assert_eq!(stage(Some(&bound("chime", TO, "pvc-2")), &new), Ok(Stage::Done));
        assert_eq!(stage(Some(&bound("chime", TO, "pvc-2")), &fresh), Ok(Stage::Done));
    }

    #[test]
    fn what_cannot_be_moved_is_said() {
        let fails = |claim: Option<&Claim>, volumes: &[Volume]| of(KEY, claim, volumes, TO).unwrap_err();
        assert_eq!(fails(None, &[hostpath()]).kind(), Kind::NotFound);
        for (claim, expected) in [
            (with(old(), "/status/phase", "Pending"), "not Bound"),
            (with(old(), "/status/phase", "Lost"), "is Lost"),
            (with(old(), "/metadata/deletionTimestamp", "2026-01-01T00:00:00Z"), "being deleted"),
        ] {
            let error = fails(Some(&claim), &[hostpath()]);
            assert!(error.kind() == Kind::Conflict && error.message().contains(expected), "{error}");
        }
        let two = fails(Some(&old()), &[filled("pvc-2", "pvc-1"), filled("pvc-3", "pvc-1")]);
        assert!(two.message().contains("pvc-2 and pvc-3"), "{two}");
    }
}
