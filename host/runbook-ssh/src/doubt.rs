//! What became of a command whose answer was lost, decided by what was found at its machine. Nothing is assumed.

use crate::marks::{Ended, Marks};

/// What the marks are held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    /// Of the machine before the change; empty: not known.
    pub(crate) boot_id_before: &'a str,
    /// Of the machine now; empty: it has none.
    pub(crate) boot_id: &'a str,
    /// The folder of marks has been there, or nothing was carried out there, ever since the change may have left.
    pub(crate) complete: bool,
}

/// What the marks of a change say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// It never ran, and cannot any more.
    NeverRan,
    /// It ended with this status.
    Ended(i32),
    /// It is at work.
    AtWork,
    /// They do not say how it ended.
    Open(Doubt),
}

/// Why nobody can tell by the marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// It was started, and is gone without a word.
    Vanished,
    /// It was started, and the machine went down since.
    WentDown,
    /// It was started, and where its processes are cannot be found out there.
    Untraceable,
    /// No start is noted; but the machine went down since, and may have lost the note.
    LostNotes,
    /// No start is noted; but notes were cleared since.
    ClearedNotes,
}

/// What the marks say.
pub(crate) fn word(marks: &Marks, known: Known<'_>) -> Word {
    match (&marks.start, marks.exit) {
        (_, Some(Ended::Refused)) => Word::NeverRan,
        (_, Some(Ended::Status(status))) => Word::Ended(status),
        (Some(start), None) => {
            if start.boot_id != known.boot_id {
                Word::Open(Doubt::WentDown)
            } else if marks.alive {
                Word::AtWork
            } else if start.groups.is_empty() {
                Word::Open(Doubt::Untraceable)
            } else {
                Word::Open(Doubt::Vanished)
            }
        }
        (None, None) => {
            if known.boot_id_before.is_empty() || known.boot_id_before != known.boot_id {
                // A mark is written, but not forced to the disk: that would cost every change a wait.
                Word::Open(Doubt::LostNotes)
            } else if known.complete {
                Word::NeverRan
            } else {
                Word::Open(Doubt::ClearedNotes)
            }
        }
    }
}

/// What is said where the marks do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// `done_when` holds.
    Already,
    /// It may be done (again).
    NotDone,
    /// A person has to look.
    Unclear,
}

/// Settles a doubt by `done_when` (none: there is none), and by whether doing it twice harms.
pub(crate) fn settled(doubt: Doubt, done: Option<bool>, harmless: bool) -> Settled {
    match (done, doubt) {
        (Some(true), _) => Settled::Already,
        // It may be at work this moment.
        (Some(false) | None, Doubt::Untraceable) => Settled::Unclear,
        (Some(false) | None, Doubt::Vanished | Doubt::WentDown | Doubt::LostNotes | Doubt::ClearedNotes) => {
            if harmless { Settled::NotDone } else { Settled::Unclear }
        }
    }
}

/// The doubt in a person's words; `what` is the change, `machine` where it was made.
pub(crate) fn words(doubt: Doubt, what: &str, machine: &str, done: Option<bool>) -> String {
    let why = match doubt {
        Doubt::Vanished => "was started, and is gone without having noted how it ended (was it killed?)",
        Doubt::WentDown => "was started, and the machine went down before it had noted how it ended",
        Doubt::Untraceable => {
            "was started, has noted no end, and may still be at work: its processes cannot be found there"
        }
        Doubt::LostNotes => {
            "has no note of its start there; the machine went down since, or nobody can tell, and may have lost the note"
        }
        Doubt::ClearedNotes => "has no note of its start there; but the notes of this run were cleared since",
    };
    let done = match done {
        Some(true) => "what tells that it is done holds",
        Some(false) => "what tells that it is done does not hold",
        None => "nothing else tells whether it is done",
    };
    format!("{what} on {machine} {why}; {done}: look there how far it got")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marks::Start;

    fn started(boot_id: &str, groups: &[u32], alive: bool, exit: Option<Ended>) -> Marks {
        let start = Start { boot_id: boot_id.to_owned(), nonce: "n".to_owned(), groups: groups.to_vec() };
        Marks { start: Some(start), alive, exit, ..Marks::default() }
    }

    #[test]
    fn marks_are_believed_as_far_as_they_go() {
        let same = Known { boot_id_before: "b1", boot_id: "b1", complete: true };
        let rebooted = Known { boot_id: "b2", ..same };
        let unknown = Known { boot_id_before: "", ..same };
        let bootless = Known { boot_id_before: "", boot_id: "", complete: true };
        let cleared = Known { complete: false, ..same };
        let status = |status| Some(Ended::Status(status));
        let none = Marks::default();
        let cases = [
            (started("b1", &[7], false, status(0)), same, Word::Ended(0)),
            (started("b1", &[7], true, status(3)), same, Word::Ended(3)),
            (started("b1", &[7], false, status(3)), rebooted, Word::Ended(3)),
            (started("b1", &[7], false, Some(Ended::Refused)), same, Word::NeverRan),
            (started("b1", &[7], true, None), same, Word::AtWork),
            (started("b1", &[7], true, None), cleared, Word::AtWork),
            (started("b1", &[7], false, None), same, Word::Open(Doubt::Vanished)),
            (started("b1", &[], false, None), same, Word::Open(Doubt::Untraceable)),
            (started("b1", &[7], true, None), rebooted, Word::Open(Doubt::WentDown)),
            (started("b1", &[7], false, None), rebooted, Word::Open(Doubt::WentDown)),
            (started("", &[], false, None), rebooted, Word::Open(Doubt::WentDown)),
            (started("", &[7], true, None), bootless, Word::AtWork),
            (none.clone(), same, Word::NeverRan),
            (none.clone(), cleared, Word::Open(Doubt::ClearedNotes)),
            (none.clone(), rebooted, Word::Open(Doubt::LostNotes)),
            (none.clone(), unknown, Word::Open(Doubt::LostNotes)),
            (none, bootless, Word::Open(Doubt::LostNotes)),
        ];
        for (marks, known, expected) in cases {
            assert_eq!(word(&marks, known), expected, "{marks:?} {known:?}");
        }
    }

    #[test]
    fn doubts_are_settled_by_what_is_done_and_what_harms() {
        let all = [Doubt::Vanished, Doubt::WentDown, Doubt::Untraceable, Doubt::LostNotes, Doubt::ClearedNotes];
        for doubt in all {
            let again = if doubt == Doubt::Untraceable { Settled::Unclear } else { Settled::NotDone };
            for harmless in [true, false] {
                assert_eq!(settled(doubt, Some(true), harmless), Settled::Already, "{doubt:?}");
                for done in [Some(false), None] {
                    let expected = if harmless { again } else { Settled::Unclear };
                    assert_eq!(settled(doubt, done, harmless), expected, "{doubt:?} {done:?} {harmless}");
                    assert!(words(doubt, "`x`", "node1", done).contains("`x` on node1"));
                }
            }
        }
    }
}
