//! What the program itself costs for a call, an event and a step, the world being in memory and the journal on a tmpfs. Where
//! a name says "disk", the journal is on the disk of the temporary folder.
#![expect(clippy::expect_used, reason = "a benchmark may panic")]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/run/fakes.rs"]
mod fakes;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fakes::{Catalog, Functions, Person, World};
use runbook_engine::backend::Secrets;
use runbook_engine::broker::{Broker, Mode, Pulse, Setup, targets};
use runbook_engine::journal::{self, Journal, Watcher};
use runbook_engine::plugin::Road as _;
use runbook_engine::run::{Actions as _, Engine, Header};
use runbook_engine::scope::Inputs;
use runbook_engine::shared::Shared;
use runbook_model::call::{
    Act, Attributes, Call, Change, Content, Effect, FileWant, FilesAct, FilesLook, Look, Request, Target, Text,
};
use runbook_model::consent::Consent;
use runbook_model::event::{Instance, Record, Verb};
use runbook_model::expr::HostView;
use runbook_model::grant::{Grants, Terms};
use runbook_model::parse;
use runbook_model::plan::{Allow, Runbook};
use runbook_model::redact::Redactor;
use serde_json::json;
use tokio::runtime::Runtime;

/// As the display does: looks at each record.
#[derive(Default)]
struct Count(AtomicU64);

impl Watcher for Count {
    fn record(&self, record: &Record) {
        self.0.fetch_add(record.seq, Ordering::Relaxed);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn secrets() -> Secrets {
    let pairs = [("db", "correct horse battery staple"), ("api", "0123456789abcdef0123456789abcdef")];
    Secrets(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn memory() -> tempfile::TempDir {
    let tmpfs = Path::new("/dev/shm");
    if tmpfs.is_dir() { tempfile::tempdir_in(tmpfs) } else { tempfile::tempdir() }.expect("a folder")
}

fn journal(folder: &Path) -> Journal {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let file = journal::create(&folder.join(COUNT.fetch_add(1, Ordering::Relaxed).to_string())).expect("a journal");
    Journal::new(Some(file), fakes::begun(), Redactor::new(&secrets().0), vec![Arc::new(Count::default())])
}

fn shared(world: &Arc<World>, journal: Journal) -> Arc<Shared> {
    let (redactor, secrets) = (Redactor::new(&secrets().0), Arc::new(secrets()));
    Arc::new(Shared { redactor, secrets, ..fakes::shared(world, journal) })
}

fn instance() -> Instance {
    Instance { step: "configure".into(), host: Some("n1".into()), item: None }
}

fn broker(shared: &Arc<Shared>) -> Arc<Broker> {
    let catalog = Catalog::default();
    let (action, _) = catalog.action("t", "write").expect("it is there");
    let roles = vec![("host".to_owned(), vec!["n1".to_owned()])];
    let grants = Grants::new(Terms {
        targets: &targets(&roles, None),
        action,
        inputs: &json!({"path": "/f"}),
        computed: &Default::default(),
        allow: &Allow::Unsaid,
        consent: Consent::Implied,
    });
    Broker::new(Setup {
        shared: Arc::clone(shared),
        world: Arc::clone(&shared.backend),
        instance: instance(),
        grants: Arc::new(grants),
        secrets: Default::default(),
        roles,
        cluster: None,
        mode: Mode::Apply,
        deadline: Instant::now() + Duration::from_secs(3600),
        pulse: Pulse::after(None, 0),
        needs_receipt: None,
    })
}

fn n1() -> Target {
    Target::Machine("n1".into())
}

fn read() -> Request {
    Request { target: n1(), call: Call::Look(Look::Files(FilesLook::Read { path: "/f".into(), limit: 16 << 20 })) }
}

fn write(content: String) -> Request {
    let content = Content::Text(Text::plain(content));
    let want = FileWant::File { content, attributes: Attributes::default(), validate: Vec::new() };
    let act = Act::Files(FilesAct { path: "/f".into(), want });
    Request { target: n1(), call: Call::Change(Change { act, effect: Effect::default() }) }
}

fn calls(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = memory();
    let mut group = criterion.benchmark_group("a call through the broker");
    for (name, size) in [("64 B", 64), ("4 KiB", 4 << 10), ("1 MiB", 1 << 20)] {
        let line = "a line of a file\n";
        let content = line.repeat(size / line.len());
        for kind in ["look", "unchanged", "change"] {
            let world = Arc::new(World::default());
            world.state().files.insert((n1(), "/f".into()), content.clone());
            let journal = journal(folder.path());
            let shared = shared(&world, journal.clone());
            let request = if kind == "look" { read() } else { write(content.clone()) };
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("{kind}, {name}"), |bencher| {
                bencher.iter_custom(|count| {
                    runtime.block_on(async {
                        let road = broker(&shared);
                        let started = Instant::now();
                        for number in 0..count {
                            let mut request = request.clone();
                            if let ("change", Call::Change(Change { act: Act::Files(act), .. })) =
                                (kind, &mut request.call)
                                && let FileWant::File { content: Content::Text(text), .. } = &mut act.want
                            {
                                text.0.push(runbook_model::call::TextPart::Plain(format!("{number}\n")));
                            }
                            road.call(request).await.expect("an answer");
                        }
                        journal.settle().await;
                        started.elapsed()
                    })
                });
            });
        }
    }
}

fn appends(criterion: &mut Criterion) {
    let runtime = runtime();
    let (memory, disk) = (memory(), tempfile::tempdir().expect("a folder"));
    let mut group = criterion.benchmark_group("append to the journal");
    for (name, folder, durable) in
        [("not durable", &memory, false), ("durable, no disk", &memory, true), ("durable, disk", &disk, true)]
    {
        let journal = journal(folder.path());
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                runtime.block_on(async {
                    let started = Instant::now();
                    for _ in 0..count {
                        let event = fakes::step_started(instance(), 1);
                        journal.append(event, durable).await.expect("written");
                    }
                    journal.settle().await;
                    started.elapsed()
                })
            });
        });
    }
}

/// A runbook of steps that write one file each, on so many hosts; the world is so already, or not.
struct Work {
    runbook: Runbook,
    hosts: usize,
    steps: usize,
}

struct NoFiles;

impl parse::Files for NoFiles {
    fn read(&self, _: &str) -> Result<String, String> {
        Err("no such file".to_owned())
    }
}

impl Work {
    fn new(hosts: usize, steps: usize, needs: bool) -> Self {
        let mut text = "schema = 1\nname = \"x\"\n[vars]\nfolder = \"/etc/app\"\n".to_owned();
        for host in 0..hosts {
            let _ = write!(text, "[hosts.n{host}]\naddress = \"192.0.2.1\"\nlabels = [\"all\"]\n");
        }
        for step in 0..steps {
            let needs = if needs && step > 0 { format!("needs = [\"s{}\"]\n", step - 1) } else { String::new() };
            let with = format!("{{ path = \"{{{{ vars.folder }}}}/{step}\", content = \"for {{{{ host.name }}}}\" }}");
            let _ =
                write!(text, "[[step]]\nid = \"s{step}\"\nuses = \"t/write\"\non = \"all\"\n{needs}with = {with}\n");
        }
        let (runbook, diagnostics) = parse::load("x.toml", &text, &NoFiles, &Catalog::default());
        Self { runbook: runbook.unwrap_or_else(|| panic!("{diagnostics:?}")), hosts, steps }
    }

    fn world(&self, done: bool) -> Arc<World> {
        let world = World::default();
        for host in 0..self.hosts {
            for step in 0..self.steps {
                let place = (Target::Machine(format!("n{host}")), format!("/etc/app/{step}"));
                let content = if done { format!("for n{host}") } else { String::new() };
                world.state().files.insert(place, content);
            }
        }
        Arc::new(world)
    }

    async fn exec(&self, world: &Arc<World>, journal: Journal) {
        let engine = Engine {
            shared: shared(world, journal),
            plugins: Arc::new(Functions::default()),
            actions: Arc::new(Catalog::default()),
            gate: Arc::new(Person(true)),
            options: fakes::options(Verb::Exec),
            entered: Default::default(),
        };
        let hosts = self.runbook.hosts.iter().map(|h| HostView { name: h.name.clone(), ..HostView::default() });
        let mut vars = serde_json::Map::new();
        vars.insert("folder".into(), json!("/etc/app"));
        let inputs = Inputs { hosts: Arc::new(hosts.collect()), vars, ..Inputs::default() };
        let header = Header { program: "bench".into(), pid: 1, ..Header::default() };
        let ended = engine.run(&self.runbook, inputs, header).await.expect("the journal is written");
        assert_eq!(ended.summary.failed, 0, "{ended:?}");
    }
}

fn runs(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = memory();
    let mut group = criterion.benchmark_group("a run");
    for (name, work, done) in [
        ("200 steps, 1 host, unchanged", Work::new(1, 200, false), true),
        ("200 steps, 1 host, changed", Work::new(1, 200, false), false),
        ("1000 steps, 1 host, unchanged", Work::new(1, 1000, false), true),
        ("1000 steps with needs, 1 host, unchanged", Work::new(1, 1000, true), true),
        ("20 steps, 100 hosts, unchanged", Work::new(100, 20, false), true),
        ("20 steps, 1000 hosts, unchanged", Work::new(1000, 20, false), true),
    ] {
        group.throughput(Throughput::Elements((work.hosts * work.steps) as u64));
        group.sample_size(10);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mut time = Duration::ZERO;
                for _ in 0..count {
                    let (world, journal) = (work.world(done), journal(folder.path()));
                    let started = Instant::now();
                    runtime.block_on(work.exec(&world, journal));
                    time += started.elapsed();
                }
                time
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = calls, appends, runs
}
criterion_main!(benches);
