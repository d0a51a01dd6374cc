//! `package`: software from apt or snap.

use runbook_sdk::prelude::*;

use crate::{apt, snap};

#[derive(Deserialize)]
pub(crate) struct Input {
    pub(crate) names: Vec<String>,
    #[serde(default)]
    pub(crate) state: State,
    #[serde(default)]
    manager: Manager,
    pub(crate) channel: Option<String>,
    #[serde(default)]
    pub(crate) classic: bool,
    #[serde(default = "yes")]
    pub(crate) update: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    #[default]
    Present,
    Absent,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Manager {
    #[default]
    Apt,
    Snap,
}

pub(crate) fn converge(input: Input) -> Result<()> {
    let machine = Machine::target("host")?;
    match input.manager {
        Manager::Apt if input.channel.is_some() || input.classic => {
            invalid!("`channel` and `classic` belong to `manager = \"snap\"`")
        }
        Manager::Apt => apt::converge(&machine, &input),
        Manager::Snap => snap::converge(&machine, &input),
    }
}
