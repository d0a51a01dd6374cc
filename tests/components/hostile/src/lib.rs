//! A plugin that is granted a little and reaches for more: one way for each word.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "runbook:plugin/plugin",
    generate_all,
});

use exports::runbook::plugin::action::Guest;
use runbook::base::types::{CallError, Effect, TextPart, Timing};
use runbook::files::trees::{self, Attributes, Content, Tree};
use runbook::ssh::machines::{self, Command, Input, Machine, Undo};

const MANIFEST: &[u8] = include_bytes!("../manifest.json");

#[used]
#[unsafe(link_section = "runbook:manifest")]
static SECTION: [u8; MANIFEST.len()] = *include_bytes!("../manifest.json");

struct Hostile;

export!(Hostile);

impl Guest for Hostile {
    fn describe() -> String {
        String::from_utf8_lossy(MANIFEST).into_owned()
    }

    fn converge(_: String, inputs: String) -> Result<String, CallError> {
        let value = |name: &str| value(&inputs, name);
        reach(&value("how"), &value("inside"), &value("outside"))
    }

    fn verify(_: String, _: String) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }
}

fn reach(how: &str, inside: &str, outside: &str) -> Result<String, CallError> {
    let machine = machines::targets("on").remove(0);
    let files = machine.files();
    match how {
        // Files outside of the folder.
        "parent" => write(&files, &format!("{inside}/../outside/planted"))?,
        "dot" => write(&files, &format!("{inside}/./sub/../../outside/planted"))?,
        "absolute" => write(&files, &format!("{outside}/planted"))?,
        // `inside/way` is a link to `outside`, made by whoever runs the test.
        "through a link" => write(&files, &format!("{inside}/way/planted"))?,
        "read through a link" => {
            let read = files.read(&format!("{inside}/way/kept"), 1000)?;
            return Ok(outputs(&String::from_utf8_lossy(&read)));
        }
        "remove through a link" => drop(files.ensure_absent(&format!("{inside}/way/kept"), &effect())?),
        "list through a link" => drop(files.list(&format!("{inside}/way"))?),
        "own link" => {
            files.ensure_link(&format!("{inside}/mine"), outside, &effect())?;
            write(&files, &format!("{inside}/mine/planted"))?;
        }
        "controller" => drop(trees::controller().read(&format!("{outside}/kept"), 1000)?),
        "controller write" => write(&trees::controller(), &format!("{outside}/planted"))?,

        // Commands that were not granted.
        "metacharacter" => run(&machine, &["touch", &format!("x; touch {outside}/planted")], false)?,
        "shell" => run(&machine, &["sh", "-c", &format!("touch {outside}/planted")], false)?,
        "more arguments" => run(&machine, &["touch", &format!("{inside}/a"), &format!("{outside}/planted")], false)?,
        "climbing argument" => run(&machine, &["touch", &format!("{inside}/../outside/planted")], false)?,
        "option" => run(&machine, &["touch", "--reference=/etc/shadow"], false)?,
        "as root" => run(&machine, &["touch", &format!("{inside}/a")], true)?,
        "environment" => {
            let mut command = command(&["touch", "x"]);
            let (library, path) = ("LD_PRELOAD".to_owned(), format!("{outside}/planted"));
            let argument = format!("{inside}/a");
            command.argv[1] = argument;
            command.env = vec![(library, vec![TextPart::Plain(path)])];
            machine.change(&command, None, &Undo::Harmless, &effect())?;
        }
        "observe to change" => {
            machine.observe(&command(&["touch", &format!("{inside}/a")]))?;
        }
        "for good" => {
            let undo = Undo::Irreversible("gone".to_owned());
            machine.change(&command(&["touch", &format!("{inside}/a")]), None, &undo, &effect())?;
        }

        // Other machines.
        "network" => drop(machine.tcp("127.0.0.1", 22, 1000)?),
        "reboot" => drop(machine.reboot(1000, &effect())?),
        "another host" => {
            let others: usize =
                ["other", "host", "all", "*", "h2", ""].iter().map(|role| machines::targets(role).len()).sum();
            assert_eq!(others, 0, "other roles have machines");
            // SAFETY: the point of the test: nobody gave us this handle.
            let forged = unsafe { Machine::from_handle(machine.handle() + 1) };
            run(&forged, &["touch", &format!("{inside}/a")], false)?;
        }

        // A secret that the step does not hold, by its name.
        "secret" => {
            let text = vec![TextPart::Secret("elsewhere".to_owned())];
            files.ensure_file(&format!("{inside}/a"), &Content::Text(text), &as_it_is(), &[], &effect())?;
        }
        "secret token" => {
            let text = "\u{27E6}secret:elsewhere\u{27E7}".as_bytes().to_vec();
            files.ensure_file(&format!("{inside}/a"), &Content::Bytes(text), &as_it_is(), &[], &effect())?;
        }

        // Allowed, with arguments that a shell would take apart.
        "literal" => {
            run(
                &machine,
                &["touch", &format!("{inside}/a; touch {outside}/planted $(touch {outside}/planted) `x` && |\n'\"")],
                false,
            )?;
            let said = machine.observe(&command(&["echo", "$(id) `id` ; id | id > /x \\ ' \" *"]))?;
            return Ok(outputs(&String::from_utf8_lossy(&said.stdout)));
        }

        // Denied, and it goes on as if nothing had been.
        "swallow" => {
            drop(write(&files, &format!("{outside}/planted")));
            write(&files, &format!("{inside}/fine"))?;
        }
        other => return Err(CallError::Invalid(format!("cannot {other}"))),
    }
    Ok("{}".to_owned())
}

fn outputs(text: &str) -> String {
    format!("{{\"answer\":\"{}\"}}", text.trim().replace('\\', "\\\\").replace('"', "\\\""))
}

fn run(machine: &Machine, argv: &[&str], privileged: bool) -> Result<(), CallError> {
    let mut command = command(argv);
    command.privileged = privileged;
    machine.change(&command, None, &Undo::Harmless, &effect()).map(drop)
}

fn write(files: &Tree, path: &str) -> Result<(), CallError> {
    files.ensure_file(path, &Content::Bytes(b"planted\n".to_vec()), &as_it_is(), &[], &effect()).map(drop)
}

fn as_it_is() -> Attributes {
    Attributes { mode: None, owner: None, group: None }
}

fn effect() -> Effect {
    Effect { summary: "reach".to_owned(), timing: Timing::Now, alters: Vec::new(), repeats: true }
}

fn command<'a>(argv: &[&str]) -> Command<'a> {
    Command {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: Input::None,
        files: Vec::new(),
        reads: Vec::new(),
        timeout_ms: None,
        privileged: false,
        follow: false,
    }
}

/// A text of the inputs; paths of the tests need no escapes.
fn value(inputs: &str, name: &str) -> String {
    let start = format!("\"{name}\":\"");
    inputs
        .split_once(&start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(text, _)| text.to_owned())
        .unwrap_or_default()
}
