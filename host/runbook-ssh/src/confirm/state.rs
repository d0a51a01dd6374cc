//! What is found of a change at its machine, and what is to be done then.

use runbook_model::bytes::Bytes;
use runbook_model::call::{CallError, Output};

use crate::command::exit;

/// Who has won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Nothing was begun.
    Absent,
    /// Nothing was begun, and nothing will be.
    Void,
    /// Taken back, unless it is confirmed.
    Armed,
    /// It stays.
    Confirmed,
    /// It is taken back, or was.
    Reverted,
}

/// What the machine says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(super) token: Token,
    /// How the commit ended.
    pub(super) commit: Option<i32>,
    /// How the revert ended.
    pub(super) revert: Option<i32>,
    /// Seconds until it is taken back; below 0 they are over.
    pub(super) left: i64,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// What the revert said.
    pub(super) taken_back: Vec<u8>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is still at work.
    Wait,
    /// The commit has ended: a connection that is opened now proves something.
    Anew,
    Confirm,
    TakeBack,
    /// It is decided, and over.
    Over,
}

/// What the connection proves on which a state was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// It was opened when the commit had ended.
    pub(super) fresh: bool,
    /// It leads to an address that counts: one that was named, or any, where the named ones had their time.
    pub(super) counts: bool,
}

impl State {
    /// Reads what the machine wrote.
    pub(crate) fn parse(answer: &[u8]) -> Result<Self, CallError> {
        read(answer).ok_or_else(|| {
            let text = String::from_utf8_lossy(&answer[..answer.len().min(80)]).into_owned();
            CallError::Failed(format!("the state of a change that waits for its confirmation is garbled: {text:?}"))
        })
    }

    /// What is to be done about it.
    pub(super) fn next(&self, proof: Proof) -> Next {
        match (self.token, self.commit) {
            (Token::Absent | Token::Void | Token::Confirmed, _) => Next::Over,
            (Token::Reverted, _) => {
                if self.revert.is_some() {
                    Next::Over
                } else {
                    Next::Wait
                }
            }
            (Token::Armed, Some(0)) => match proof {
                Proof { fresh: true, counts: true } => Next::Confirm,
                Proof { fresh: false, .. } | Proof { counts: false, .. } => Next::Anew,
            },
            (Token::Armed, Some(_)) => Next::TakeBack,
            // Whoever was to take it back is gone, as after a reboot.
            (Token::Armed, None) if self.left < -OVERDUE => Next::TakeBack,
            (Token::Armed, None) => Next::Wait,
        }
    }

    /// What the commit gave.
    pub(crate) fn output(&self) -> Output {
        Output {
            exit: exit(self.commit.unwrap_or(0)),
            stdout: Bytes(self.stdout.clone()),
            stderr: Bytes(self.stderr.clone()),
        }
    }
}

/// Seconds after which a machine that has not taken a change back by itself is told to.
const OVERDUE: i64 = 10;

fn read(answer: &[u8]) -> Option<State> {
    let end = answer.iter().position(|&byte| byte == b'\n')?;
    let (head, rest) = (std::str::from_utf8(&answer[..end]).ok()?, &answer[end + 1..]);
    let fields: Vec<&str> = head.split(' ').filter(|field| !field.is_empty()).collect();
    let [token, commit, revert, left, stdout, stderr, taken_back] = fields.as_slice() else { return None };
    let status = |text: &str| match text {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    let token = match *token {
        "absent" => Token::Absent,
        "void" => Token::Void,
        "armed" => Token::Armed,
        "confirmed" => Token::Confirmed,
        "reverted" => Token::Reverted,
        _ => return None,
    };
    let (stdout, rest) = rest.split_at_checked(stdout.parse().ok()?)?;
    let (stderr, rest) = rest.split_at_checked(stderr.parse().ok()?)?;
    let (taken_back, rest) = rest.split_at_checked(taken_back.parse().ok()?)?;
    let state = State {
        token,
        commit: status(commit)?,
        revert: status(revert)?,
        left: left.parse().ok()?,
        stdout: stdout.to_vec(),
        stderr: stderr.to_vec(),
        taken_back: taken_back.to_vec(),
    };
    rest.is_empty().then_some(state)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn state(token: Token, commit: Option<i32>, revert: Option<i32>, left: i64) -> State {
        State { token, commit, revert, left, stdout: Vec::new(), stderr: Vec::new(), taken_back: Vec::new() }
    }

    #[test]
    fn what_the_machine_says_is_read() {
        let state =
            State::parse(b"reverted 78 0 -3 3 6 4\none\ntwo\nxyzlast").map(|s| (s.token, s.commit, s.revert, s.left));
        assert!(state.is_err(), "too much");
        let state = State::parse(b"reverted 78 0 -3 4 4 3\none\ntwo\nxyz").unwrap();
        assert_eq!((state.token, state.commit, state.revert, state.left), (Token::Reverted, Some(78), Some(0), -3));
        assert_eq!((&*state.stdout, &*state.stderr, &*state.taken_back), (&b"one\n"[..], &b"two\n"[..], &b"xyz"[..]));
        let state = State::parse(b"armed - - 57 0 0 0\n").unwrap();
        assert_eq!((state.token, state.commit, state.left), (Token::Armed, None, 57));
    }

    #[test]
    fn garbage_is_no_state() {
        for text in [
            "",
            "\n",
            "armed\n",
            "fine - - 0 0 0 0\n",
            "armed x - 0 0 0 0\n",
            "armed - - 0 9 0 0\nx",
            "armed - - 0 -1 0 0\n",
        ] {
            let error = State::parse(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("garbled"), "{text:?}: {error}");
        }
    }

    #[test]
    fn only_a_connection_that_proves_something_confirms() {
        use Next::{Anew, Confirm, Over, TakeBack, Wait};
        let all = [(false, false), (true, false), (false, true), (true, true)];
        let table = [
            (state(Token::Absent, None, None, 0), [Over; 4]),
            (state(Token::Void, None, None, 0), [Over; 4]),
            (state(Token::Armed, None, None, 60), [Wait; 4]),
            (state(Token::Armed, None, None, -9), [Wait; 4]),
            (state(Token::Armed, None, None, -11), [TakeBack; 4]),
            (state(Token::Armed, Some(0), None, 60), [Anew, Anew, Anew, Confirm]),
            (state(Token::Armed, Some(1), None, 60), [TakeBack; 4]),
            (state(Token::Reverted, Some(0), None, 60), [Wait; 4]),
            (state(Token::Reverted, Some(0), Some(0), 60), [Over; 4]),
            (state(Token::Reverted, None, Some(1), 60), [Over; 4]),
            (state(Token::Confirmed, Some(0), None, 60), [Over; 4]),
        ];
        for (state, expected) in table {
            for ((fresh, counts), next) in all.into_iter().zip(expected) {
                assert_eq!(state.next(Proof { fresh, counts }), next, "{state:?} {fresh} {counts}");
            }
        }
    }
}
