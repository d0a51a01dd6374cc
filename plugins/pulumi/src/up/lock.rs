//! Locks of a stack in a file backend: who holds them, and whether that process is dead.

use std::fmt;

use runbook_sdk::prelude::*;

use super::stack::Stack;
use super::trouble::Trouble;

/// Who took a lock.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lock {
    user: String,
    host: String,
    pid: u32,
    since: String,
}

/// "mp@laptop (pid 42, since 2026-09-23T13:21:31Z)".
impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} (pid {}, since {})", self.user, self.host, self.pid, self.since)
    }
}

impl Lock {
    /// Reads the lines `URL: created by USER@HOST (pid N) at TIME` of the error.
    pub(super) fn read_all(said: &str) -> Vec<Self> {
        said.lines().filter_map(Self::read).collect()
    }

    fn read(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(": created by ")?;
        let (who, rest) = rest.split_once(" (pid ")?;
        let (pid, since) = rest.split_once(") at ")?;
        let (user, host) = who.rsplit_once('@')?;
        Some(Self {
            user: user.to_owned(),
            host: host.to_owned(),
            pid: pid.parse().ok()?,
            since: since.trim().to_owned(),
        })
    }
}

/// Refuses unless every lock was taken on this very machine by a process that is dead.
///
/// # Errors
///
/// Who holds it, and what to do.
pub(super) fn refuse_if_alive(stack: &Stack<'_>, locks: &[Lock]) -> Result<()> {
    let machine = stack.machine();
    let hostname = machine.facts()?.hostname;
    for lock in locks {
        if lock.host != hostname {
            let error = Trouble::Locked(vec![lock.clone()]).error(&stack.said());
            return Err(error.context(format!(
                "`cancel_stale_lock` removes only locks that were taken on {} ({hostname}) itself",
                machine.name()
            )));
        }
        // Empty: killed, and nobody has taken note of its death yet. With more rights, for processes of others may be hidden.
        let process = format!("/proc/{}/cmdline", lock.pid);
        let look = machine.cmd(["grep", "-q", ".", process.as_str()]).privileged().observe()?;
        match look.code() {
            Some(1) => {}
            Some(2) if look.stderr_text().contains("No such file") => {}
            Some(0) => {
                let error = Trouble::Locked(vec![lock.clone()]).error(&stack.said());
                return Err(error.context(format!("process {} is alive on {}", lock.pid, machine.name())));
            }
            _ => return Err(look.error()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_say_who_took_them() {
        let locks = Lock::read_all(include_str!("../../testdata/pulumi_lock_error.txt"));
        assert_eq!(locks.len(), 1);
        assert_eq!(locks[0].to_string(), "mp@laptop (pid 42, since 2026-09-23T13:21:31Z)");
    }
}
