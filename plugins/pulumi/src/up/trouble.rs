//! Why pulumi did not do it, by its words and by its exit code, and what to do.

use runbook_sdk::prelude::*;

use super::lock::Lock;

/// A version of pulumi.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32, u32);

impl Version {
    /// From here on exit codes say what went wrong. Before, every failure was 255.
    const WITH_CODES: Self = Self(3, 226, 1);

    /// Where nobody has asked.
    pub(super) const NEWEST: Self = Self(u32::MAX, 0, 0);

    /// "v3.230.0", perhaps with more behind. What cannot be read is the oldest: then only words count.
    pub(super) fn read(text: &str) -> Self {
        let first = text.split_whitespace().next().unwrap_or_default().trim_start_matches('v');
        let mut numbers = first.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self(next(), next(), next())
    }
}

/// Why pulumi did not do it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// Somebody holds the lock; who, where the backend says so.
    Locked(Vec<Lock>),
    /// An earlier update was killed in the middle of these.
    Pending(Vec<String>),
    NoPassphrase,
    WrongPassphrase,
    NoStack,
    NoLogin,
    /// The program's cluster does not answer; in its words.
    Unreachable(String),
    /// The objects are there, and the state does not know them; in its words.
    AlreadyExists(String),
    /// A policy of the organisation forbids it.
    Policy,
    Cancelled,
    TimedOut,
    /// Operations failed.
    Failed {
        failed: Vec<String>,
        errors: Vec<String>,
    },
    /// Exit code 0, and no end of the events.
    Incomplete,
    /// What pulumi says is all that is known.
    Other,
}

impl Trouble {
    /// Words first: they hold in all versions. Then the exit code, where it means something.
    pub(super) fn of(said: &str, code: Option<i32>, version: Version) -> Self {
        let has = |needle: &str| said.contains(needle);
        let line = |needle: &str| {
            let line = said.lines().find(|line| line.contains(needle)).unwrap_or_default().trim();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        };
        const UNREACHABLE: &str = "configured Kubernetes cluster is unreachable";
        if has("the stack is currently locked by") || has("Another update is currently in progress") {
            return Self::Locked(Lock::read_all(said));
        }
        if has("incorrect passphrase") {
            return Self::WrongPassphrase;
        }
        if has("passphrase must be set") {
            return Self::NoPassphrase;
        }
        if has("no stack named") {
            return Self::NoStack;
        }
        if has("PULUMI_ACCESS_TOKEN must be set") {
            return Self::NoLogin;
        }
        if has(UNREACHABLE) {
            return Self::Unreachable(line(UNREACHABLE));
        }
        if has("already exists") && has("was not successfully created by the Kubernetes API server") {
            return Self::AlreadyExists(line("already exists"));
        }
        match code {
            Some(3) if version >= Version::WITH_CODES => Self::NoLogin,
            Some(5) if version >= Version::WITH_CODES => Self::Policy,
            Some(6) if version >= Version::WITH_CODES => Self::NoStack,
            Some(8) if version >= Version::WITH_CODES => Self::Cancelled,
            Some(9) if version >= Version::WITH_CODES => Self::TimedOut,
            _ => Self::Other,
        }
    }

    /// The same; or, where it is none that is known, what pulumi reported as failed operations and as errors.
    pub(super) fn or_failed(self, failed: Vec<String>, errors: Vec<String>) -> Self {
        if self == Self::Other && !(failed.is_empty() && errors.is_empty()) {
            Self::Failed { failed, errors }
        } else {
            self
        }
    }

    /// What happened to which stack, and what to do.
    pub(super) fn error(self, stack: &str) -> Error {
        let text = match self {
            Self::Locked(locks) => {
                let holders: Vec<String> = locks.iter().map(ToString::to_string).collect();
                let by = if holders.is_empty() { "another update".to_owned() } else { holders.join(", ") };
                return Error::conflict(format!(
                    "{stack} is locked by {by}. Wait for it to end. If that process is dead, set `cancel_stale_lock = true` \
                     (it looks whether it is), or run `pulumi cancel` by hand"
                ));
            }
            Self::Pending(operations) => {
                return Error::conflict(format!(
                    "{stack} was interrupted in an update, and nobody knows whether these operations were completed: {}. Look at \
                     what really exists; then set `refresh = true`, which makes the state say that (a creation that was \
                     interrupted is forgotten: if the object exists all the same, delete or import it)",
                    operations.join("; ")
                ));
            }
            Self::NoPassphrase => format!(
                "{stack} has secrets, and no passphrase was given: set `passphrase` to a secret of the runbook, or \
                 PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE in `env`. An empty one has to be set too"
            ),
            Self::WrongPassphrase => format!(
                "{stack}: the passphrase is wrong. It is the one that the stack was made with; Pulumi.STACK.yaml must be of the \
                 same stack, too"
            ),
            Self::NoStack => format!(
                "there is no {stack}: is `backend_url` right, and has the state been restored there? Stacks are named by \
                 `pulumi stack ls`. This action never makes one, because an empty state would create everything a second time"
            ),
            Self::NoLogin => format!(
                "{stack}: pulumi is logged in nowhere. Set `backend_url` (a folder of state: \"file:///srv/pulumi-state\"), or \
                 PULUMI_ACCESS_TOKEN in `env`"
            ),
            Self::Unreachable(said) => format!(
                "{stack}: pulumi does not reach the cluster that the program deploys to: {said}. Is the cluster up, and is the \
                 kubeconfig (`env.KUBECONFIG`, or in the stack's configuration) that of the cluster as it is now? Its address and \
                 authority change when it is installed anew"
            ),
            Self::AlreadyExists(said) => format!(
                "{stack}: {said}. The object is there and the state does not know it: an older state was restored, or somebody made \
                 it by hand. Import it (`pulumi import`) or delete it, and run this again"
            ),
            Self::Policy => format!("{stack}: a policy forbids it: see what pulumi said"),
            Self::Cancelled => format!("{stack}: somebody cancelled the update. Run this again"),
            Self::TimedOut => {
                format!("{stack}: an operation took too long. What is waited for stands in pulumi's output")
            }
            Self::Failed { failed, errors } if failed.is_empty() => {
                format!("{stack}: pulumi failed: {}", errors.join("\n"))
            }
            Self::Failed { failed, errors } => {
                let colon = if errors.is_empty() { "" } else { ": " };
                format!(
                    "{stack}: these operations failed: {}{colon}{}. What was done before them stays; run this again when the cause \
                     is mended",
                    failed.join("; "),
                    errors.join("\n")
                )
            }
            Self::Incomplete => {
                format!("{stack}: pulumi ended with exit code 0, but without the summary that ends an update")
            }
            Self::Other => format!("{stack}: pulumi failed"),
        };
        Error::failed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Version = Version(3, 230, 0);
    const OLD: Version = Version(3, 140, 0);

    #[test]
    fn versions_are_read() {
        assert_eq!(Version::read("v3.226.1\n"), Version::WITH_CODES);
        assert_eq!(Version::read("v3.230.0-alpha.1"), Version(3, 230, 0));
        assert!(Version::read("what?") < Version::WITH_CODES && OLD < Version::WITH_CODES && NEW > OLD);
    }

    #[test]
    fn words_count_in_all_versions() {
        for version in [OLD, NEW] {
            let of = |said: &str| Trouble::of(said, Some(255), version);
            let lock = of(include_str!("../../testdata/pulumi_lock_error.txt"));
            assert!(matches!(&lock, Trouble::Locked(locks) if locks.len() == 1));
            assert_eq!(of("[409] Conflict: Another update is currently in progress."), Trouble::Locked(Vec::new()));
            assert_eq!(of("error: no stack named 'prod' found"), Trouble::NoStack);
            assert_eq!(of("error: passphrase must be set with PULUMI_CONFIG_PASSPHRASE or"), Trouble::NoPassphrase);
            assert_eq!(of("error: get stack secrets manager: incorrect passphrase"), Trouble::WrongPassphrase);
            assert_eq!(of("error: PULUMI_ACCESS_TOKEN must be set for login"), Trouble::NoLogin);
            let events = include_str!("../../testdata/pulumi_up_failed_events.jsonl");
            assert!(matches!(of(events), Trouble::Unreachable(_)));
            assert_eq!(of("error: something else"), Trouble::Other);
        }
    }

    #[test]
    fn exit_codes_count_in_new_versions_only() {
        assert_eq!(Trouble::of("", Some(6), NEW), Trouble::NoStack);
        assert_eq!(Trouble::of("", Some(6), OLD), Trouble::Other);
        assert_eq!(Trouble::of("", Some(255), NEW), Trouble::Other);
        assert_eq!(Trouble::NoStack.or_failed(Vec::new(), vec!["x".to_owned()]), Trouble::NoStack);
        let error = Trouble::Other.or_failed(Vec::new(), vec!["no module named x".to_owned()]).error("stack s");
        assert_eq!(error.message(), "stack s: pulumi failed: no module named x");
    }

    #[test]
    fn errors_say_who_and_what_to_do() {
        let locks = Lock::read_all(include_str!("../../testdata/pulumi_lock_error.txt"));
        let error = Trouble::Locked(locks).error("stack prod of /srv/homeslice on here");
        assert_eq!(error.kind(), Kind::Conflict);
        assert!(
            error.message().contains("mp@laptop (pid 42") && error.message().contains("cancel_stale_lock"),
            "{error}"
        );
    }
}
