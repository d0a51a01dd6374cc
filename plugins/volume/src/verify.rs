//! Whether it worked: what the workload sees, or else what was noted on the claim.

use runbook_sdk::prelude::*;

use crate::input::Input;
use crate::seed::{claim, is_recorded, look, look_for_users};
use crate::wanted::Set;

/// What is wrong, in words.
///
/// # Errors
///
/// Where it cannot be looked at.
pub(crate) fn verify(input: Input) -> Result<Vec<String>> {
    let cluster = Cluster::target()?;
    let set = Set::collect(&input)?;
    let claim = claim(&cluster, &input)?;
    let users = look_for_users(&cluster, &input)?;
    let Some(content) = look(&cluster, &users, &input, &set)? else {
        let right = is_recorded(&claim, &input, &set);
        return Ok(if right {
            Vec::new()
        } else {
            vec![format!("claim {} does not say that it was seeded", input.key())]
        });
    };
    let wrong = set.0.iter().filter(|wanted| !content.has_content(wanted)).map(|wanted| {
        match content.files.get(&wanted.path) {
            Some(seen) => {
                format!("{} has the SHA-256 {} in the volume, not {}", wanted.path, seen.sha256, wanted.sha256)
            }
            None => format!("the workload does not see {} in the volume", wanted.path),
        }
    });
    let odd = set.0.iter().filter(|wanted| content.has_content(wanted) && !content.has_attributes(wanted, &input));
    Ok(wrong.chain(odd.map(|wanted| format!("{} has another mode or owner in the volume", wanted.path))).collect())
}
