//! A fake machine.

use std::fmt;
use std::rc::Rc;

use super::tree::{Files, Node, What};
use crate::bindings::runbook::ssh::machines::{Exit, Facts, Output};

/// A machine that was never there. What was said last of a thing holds.
///
/// - Of files it knows those that were named; a [`Machine::directory`] has in it what was named, and nothing else.
/// - Of commands it knows those that were given an answer. In `argv`, the element `*` stands for any one argument, and a last `**` for
///   any further ones.
/// - It is given to every role, unless it was given some by [`Machine::role`].
#[derive(Debug, Clone)]
pub struct Machine {
    pub(crate) name: String,
    pub(crate) roles: Vec<String>,
    pub(crate) files: Files,
    pub(crate) rules: Vec<Rule>,
    pub(crate) pages: Vec<(String, u16, Vec<u8>)>,
    pub(crate) ports: Vec<(String, u16, bool)>,
    pub(crate) names: Vec<(String, String, Vec<String>)>,
    pub(crate) facts: Option<Facts>,
}

/// What becomes of a machine by a change.
type Effect = Rc<dyn Fn(Machine) -> Machine>;

/// What a command gives.
#[derive(Clone)]
pub(crate) struct Rule {
    argv: Vec<String>,
    pub(crate) output: Output,
    /// For a command that changes something.
    pub(crate) effect: Option<Effect>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} -> {:?}", self.argv, self.output)
    }
}

impl Rule {
    pub(crate) fn is_of(&self, argv: &[String]) -> bool {
        let (own, rest) = match self.argv.split_last() {
            Some((last, own)) if last == "**" => (own, true),
            _ => (self.argv.as_slice(), false),
        };
        let fits = own.iter().zip(argv).all(|(own, given)| own == "*" || own == given);
        fits && (argv.len() == own.len() || rest && argv.len() > own.len())
    }
}

impl Machine {
    /// A machine of which nothing is known but its name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            roles: Vec::new(),
            files: Files::default(),
            rules: Vec::new(),
            pages: Vec::new(),
            ports: Vec::new(),
            names: Vec::new(),
            facts: None,
        }
    }

    /// It is given to this role of the action.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// A file, of root with mode 0644.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.put(path, content.into());
        self
    }

    /// Nothing lies there.
    #[must_use]
    pub fn absent(mut self, path: &str) -> Self {
        self.files.set(path, Node::new(What::Absent));
        self
    }

    /// A directory. Nothing is in it but what is said besides.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Self {
        self.files.set(path, Node::new(What::Directory));
        self
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.files.set(path, Node::new(What::Link(target.to_owned())));
        self
    }

    /// A command ends with exit code 0 and this on its standard output.
    #[must_use]
    pub fn answers(self, argv: impl IntoIterator<Item = impl Into<String>>, stdout: impl Into<Vec<u8>>) -> Self {
        self.rule(argv, 0, stdout.into(), Vec::new(), None)
    }

    /// A command ends with this exit code and this on its standard error.
    #[must_use]
    pub fn fails(
        self,
        argv: impl IntoIterator<Item = impl Into<String>>,
        code: i32,
        stderr: impl Into<Vec<u8>>,
    ) -> Self {
        self.rule(argv, code, Vec::new(), stderr.into(), None)
    }

    /// A command that changes something: what the machine is afterwards.
    ///
    /// ```
    /// # use runbook_sdk::fake::Machine;
    /// let machine = Machine::new("node1")
    ///     .fails(["systemctl", "is-active", "zed"], 3, "")
    ///     .changes(["systemctl", "start", "zed"], |machine| machine.answers(["systemctl", "is-active", "zed"], "active\n"));
    /// ```
    #[must_use]
    pub fn changes(
        self,
        argv: impl IntoIterator<Item = impl Into<String>>,
        effect: impl Fn(Self) -> Self + 'static,
    ) -> Self {
        self.rule(argv, 0, Vec::new(), Vec::new(), Some(Rc::new(effect)))
    }

    /// An HTTP request from it is answered so.
    #[must_use]
    pub fn page(mut self, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.pages.push((url.to_owned(), status, body.into()));
        self
    }

    /// Whether a TCP connection from it is accepted.
    #[must_use]
    pub fn port(mut self, address: &str, port: u16, open: bool) -> Self {
        self.ports.push((address.to_owned(), port, open));
        self
    }

    /// DNS answers that it gets.
    #[must_use]
    pub fn resolves(mut self, name: &str, record_type: &str, answers: &[&str]) -> Self {
        let answers = answers.iter().map(|&answer| answer.to_owned()).collect();
        self.names.push((name.to_owned(), record_type.to_owned(), answers));
        self
    }

    /// What it says of itself.
    #[must_use]
    pub fn facts(mut self, facts: crate::Facts) -> Self {
        self.facts = Some(facts);
        self
    }

    /// The text of a file, to look at what became of it. None where nothing lies there.
    ///
    /// # Panics
    ///
    /// Where that is not known, or it is not a text.
    pub fn text(&self, path: &str) -> Option<String> {
        match self.files.get(path).unwrap_or_else(|| panic!("{}: it was not said what lies at {path}", self.name)).what
        {
            What::File(content) => Some(String::from_utf8(content).unwrap_or_else(|_| panic!("{path} is not a text"))),
            What::Directory | What::Link(_) | What::Absent => None,
        }
    }

    /// Permission bits of what lies there. None where nothing does.
    pub fn mode(&self, path: &str) -> Option<u32> {
        self.files.get(path)?.stat().map(|stat| stat.mode)
    }

    pub(crate) fn find(&self, argv: &[String]) -> Option<&Rule> {
        self.rules.iter().rev().find(|rule| rule.is_of(argv))
    }

    fn rule(
        mut self,
        argv: impl IntoIterator<Item = impl Into<String>>,
        code: i32,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
        effect: Option<Effect>,
    ) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        self.rules.push(Rule { argv, output: Output { exit: Exit::Code(code), stdout, stderr }, effect });
        self
    }
}
