//! Standard plugin `volume`: fills volumes with files.
//!
//! - `wanted`: which files are to be there, from the inputs and the controller's disk;
//! - `users`: who has the volume mounted, and where a pod of ours may run;
//! - `look`: what is there, seen through a pod;
//! - `seed`: what is to be done, and doing it;
//! - `verify`: whether it worked.

mod input;
mod look;
mod pod;
mod seed;
mod users;
mod verify;
mod wanted;

runbook_sdk::plugin! {
    manifest: "plugin.toml",
    actions: {
        "seed" => seed::converge, verify verify::verify;
    }
}
