//! `runbook report`: of a run that was killed, resumed, mended and undone; and its page in a real browser.

use std::path::Path;
use std::process::Command;

use runbook_tests::{Outcome, TestEnv};
use serde_json::Value;

use crate::support::{folder, local, runs};

/// A run of three steps: killed within the second, failed at the third, mended, and at last undone. The report of each of these.
struct Story {
    env: TestEnv,
    killed: String,
    failed: String,
    recovered: String,
}

const STEPS: [&str; 3] = ["folders", "motd", "ready"];

fn story() -> Story {
    let env = TestEnv::new();
    let scratch = folder(&env, "scratch");
    let dir = scratch.display();
    std::fs::create_dir(scratch.join("here")).expect("our own folder");
    std::fs::write(scratch.join("here/motd"), "hello\nbe kind\n").expect("our own file");
    let steps = format!(
        r#"[hosts.there]
transport = "local"

[[step]]
id = "folders"
uses = "core/directory"
on = ["here", "there"]
why = "Everything <below> lies in it"
with = {{ path = "{dir}/{{{{ host.name }}}}" }}

[[step]]
id = "motd"
uses = "core/file"
on = ["here", "there"]
with = {{ path = "{dir}/{{{{ host.name }}}}/motd", content = "welcome </style><script>document.title = 'broken'</script>\nbe kind\n" }}

[[step]]
id = "ready"
uses = "core/command"
on = "here"
with = {{ argv = ["test", "-e", "{dir}/ok"], harmless = true }}
"#
    );
    env.write(
        "house.toml",
        local(&steps).replacen("name = \"local\"\n", "name = \"local\"\ntargets = { rto = \"30m\" }\n", 1),
    );
    let report = |args: &[&str]| env.run(&[&["report"], args].concat()).ok().stdout;
    assert_eq!(env.run(&["exec", "house.toml", "--drill-kill", "motd:1:after"]).signal, Some(9));
    let killed = report(&[]);
    env.run(&["resume"]).code(1).last_line("failed: 3 steps, 2 changed, 0 unchanged, 0 skipped, 1 failed");
    let failed = report(&[]);
    std::fs::write(scratch.join("ok"), "").expect("our own file");
    env.run(&["resume"]).ok().stderr_has("Target 30m met, with ");
    let recovered = report(&[]);
    env.run(&["undo"]).ok();
    assert_eq!(std::fs::read_to_string(scratch.join("here/motd")).ok().as_deref(), Some("hello\nbe kind\n"));
    Story { env, killed, failed, recovered }
}

#[test]
fn each_end_of_a_run_is_told_as_it_is() {
    let Story { env, killed, failed, recovered } = story();
    for (text, words) in [
        (&killed, &["# local: unfinished", "runbook resume", "**Not recovered.**", "cut off, or still at work"][..]),
        (&failed, &["# local: failed", "exit code 1", "cut off for", "| resume"]),
        (
            &recovered,
            &["# local: succeeded", "**Recovered in ", "Target 30m met, with ", "-hello\n", "+welcome </style>"],
        ),
    ] {
        for word in words {
            assert!(text.contains(word), "{word}:\n{text}");
        }
    }
    let undone = env.run(&["report"]).ok();
    for word in [
        "# local: undone",
        "since undone",
        "taken back: ",
        "It was taken back later",
        "2 changes were left as they are",
    ] {
        assert!(undone.stdout.contains(word), "{word}:\n{undone}");
    }

    // The same by name, by its beginning, to a file, and as a page on stdout.
    let run = runs(&env).pop().expect("there is a run");
    let name = run.file_name().and_then(|n| n.to_str()).expect("names of runs are text");
    assert_eq!(env.run(&["report", &name[..12]]).ok().stdout, undone.stdout);
    env.run(&["report", name, "--output", "it.md"]).ok().stderr_has("it.md");
    assert_eq!(std::fs::read_to_string(env.work().join("it.md")).ok(), Some(undone.stdout.clone()));
    let page = env.run(&["report", "--format", "html"]).ok().stdout;
    env.run(&["report", "--html", "it.html"]).ok();
    assert_eq!(std::fs::read_to_string(env.work().join("it.html")).ok(), Some(page));
    env.run(&["report", "no-such-run"]).code(2).stderr_has("no run begins with");
    env.run(&["report", "--html", "no/such/folder.html"]).code(2).stderr_has("no/such/folder.html");
    env.run(&["report", "--html", "a", "--format", "md"]).code(2);
}

/// What stands beside the page: it has it shown in two widths, and tells what it sees there. Hex, so that nothing is escaped.
const LOOK: &str = r#"<!doctype html>
<iframe id="page" src="PAGE" style="border: 0; height: 800px; width: 400px"></iframe><pre id="seen"></pre>
<script>
const frame = document.getElementById("page");
function look(width) {
  frame.style.width = width + "px";
  const page = frame.contentDocument;
  const box = element => { const { left, right, width, height } = element.getBoundingClientRect(); return { left, right, width, height }; };
  const all = selector => Array.from(page.querySelectorAll(selector));
  return {
    inner: frame.contentWindow.innerWidth,
    scroll: page.scrollingElement.scrollWidth,
    title: page.title,
    steps: all("article.step h3").map(e => e.textContent),
    labels: all("svg.timeline text.label").map(e => e.firstChild.data),
    plot: box(page.querySelector("svg.timeline")),
    bars: all("svg.timeline rect.bar").map(e => ({ kind: e.getAttribute("class"), ...box(e) })),
    texts: all("svg.timeline text.label, svg.timeline text.note, svg.timeline text.offset").map(box),
    scripts: all("script").length,
    requests: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name),
    ground: getComputedStyle(page.body).backgroundColor,
    tiles: getComputedStyle(page.querySelector(".tiles")).display,
  };
}
window.onload = () => {
  const seen = JSON.stringify([look(400), look(1000)]);
  const hex = Array.from(new TextEncoder().encode(seen), byte => byte.toString(16).padStart(2, "0"));
  document.getElementById("seen").textContent = "SEEN" + hex.join("") + "NEES";
};
</script>
"#;

/// What a browser sees of a page, in 400 and in 1000 pixels; and what it complains of.
fn look(env: &TestEnv, page: &str, dark: bool) -> (Vec<Value>, Vec<String>) {
    let look = env.write("look.html", LOOK.replace("PAGE", page));
    let profile = folder(env, &format!("profile-{page}-{dark}"));
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        // Else each file is an origin of its own, and the frame may not be looked into.
        "--allow-file-access-from-files",
        "--enable-logging=stderr",
        "--hide-scrollbars",
        "--window-size=1100,900",
        "--dump-dom",
    ]);
    chromium.arg(format!("--user-data-dir={}", profile.display())).env("HOME", env.home());
    // 0 is dark, 1 is light.
    chromium.arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)));
    let out = Outcome::of(chromium.arg(format!("file://{}", look.display()))).ok();
    let seen = out.stdout.split_once("SEEN").and_then(|(_, rest)| rest.split_once("NEES")).map(|(hex, _)| hex);
    let seen = hex::decode(seen.unwrap_or_else(|| panic!("nothing was seen: {out}"))).expect("it is hex");
    let seen: Vec<Value> = serde_json::from_slice(&seen).expect("it is JSON");
    let complaints = out.stderr.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    (seen, complaints)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

/// What is wrong with what a browser sees.
fn faults(seen: &[Value]) -> Vec<String> {
    let mut faults = Vec::new();
    for view in seen {
        let mut check = |is_right: bool, what: String| {
            if !is_right {
                faults.push(format!("{} px: {what}", view["inner"]));
            }
        };
        check(number(&view["scroll"]) <= number(&view["inner"]), format!("it is {} wide", view["scroll"]));
        check(view["tiles"] == "grid", "its style is not applied".to_owned());
        check(view["scripts"] == 0 && view["title"] != "broken", "a script is in it".to_owned());
        check(view["requests"].as_array().is_some_and(Vec::is_empty), format!("it asks for {}", view["requests"]));
        let (left, right) = (number(&view["plot"]["left"]), number(&view["plot"]["right"]));
        let inside = |it: &Value| number(&it["left"]) >= left - 1.0 && number(&it["right"]) <= right + 1.0;
        for part in view["bars"].as_array().into_iter().chain(view["texts"].as_array()).flatten() {
            let is_seen = number(&part["width"]) >= 1.0 && number(&part["height"]) >= 1.0 && inside(part);
            check(is_seen, format!("{part} is not within {left} to {right}"));
        }
    }
    faults
}

#[test]
fn the_page_is_as_it_is_to_be_in_a_browser() {
    assert!(Path::new("/usr/bin/chromium").exists(), "chromium is missing: tests/install chromium");
    let Story { env, .. } = story();
    env.run(&["report", "--html", "report.html"]).ok();
    let (light, complaints) = look(&env, "report.html", false);
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(faults(&light), Vec::<String>::new());
    assert_eq!((&light[0]["inner"], &light[1]["inner"]), (&400.into(), &1000.into()));
    for view in &light {
        let texts =
            |what: &str| view[what].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        let titles = texts("steps");
        assert_eq!(titles.len(), STEPS.len(), "{titles:?}");
        for (step, title) in STEPS.iter().zip(titles) {
            assert!(title.contains(step), "{title}");
            assert!(texts("labels").contains(step), "{view}");
        }
        let kinds: Vec<&str> =
            view["bars"].as_array().into_iter().flatten().filter_map(|bar| bar["kind"].as_str()).collect();
        for kind in ["bar cut", "bar bad", "bar change", "bar undo"] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
    }
    let (dark, _) = look(&env, "report.html", true);
    assert_ne!(dark[0]["ground"], light[0]["ground"], "the page follows what the reader prefers");

    // The same looks find what would be wrong: a style that the page's own rule refuses, a picture, a broad line.
    let page = std::fs::read_to_string(env.work().join("report.html")).expect("it was written");
    let spoilt = page.replacen("--ground:", "--grounds:", 1).replacen("</main>", "<img src=\"a.png\"></main>", 1);
    assert_ne!(spoilt, page);
    env.write("spoilt.html", spoilt);
    let (seen, complaints) = look(&env, "spoilt.html", false);
    assert!(complaints.iter().any(|line| line.contains("Content Security Policy")), "{complaints:?}");
    assert!(faults(&seen).iter().any(|fault| fault.contains("style is not applied")), "{seen:?}");
    let wide = page.replacen("<h1>", "<h1 width=\"900\"><svg width=\"900\" height=\"1\"></svg>", 1);
    env.write("wide.html", wide);
    assert!(
        faults(&look(&env, "wide.html", false).0).iter().any(|fault| fault.contains("wide")),
        "a broad page is found"
    );
}
