//! Leases: a run has a machine to itself while it changes it, and of two sessions of a run the newer one is in charge.
//!
//! The state folder of each user on the machine holds `lock` (run, session, expiry by the machine's clock, owner), and for each run
//! a folder with its session and the marks of its changes; and `made`, how many folders above were made for it. All of it is gone
//! after a run whose changes all had a known end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use runbook_engine::backend::{CallContext, Mark, Silent, Standing};
use runbook_model::call::CallError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::command::{Item, Library};
use crate::machine::{Connection, Machine, Who};
use crate::quote::tail;
use crate::shells::Lane;

/// How long a machine is ours without another word. A controller that died holds it up for so long; one that is cut off for longer
/// than this, or suspended, may find somebody else there.
pub(crate) const TTL: Duration = Duration::from_secs(15 * 60);
/// For one renewal, and for giving a machine back.
const SHORT: Duration = Duration::from_secs(20);
/// How often a lease is tried to be taken over from a run that is over, where it becomes another one meanwhile.
const RACES: u32 = 5;
/// Characters of what somebody else wrote into a lock.
const LONGEST: usize = 120;

/// `guard` makes its argument the next lock. Only one can do so at a time, and whoever does it is done in a moment.
const LEASE: Library = r#"
lease_refuse() { printf 'X\0%s\0' "$1"; exit 0; }
lease_guard() {
RB_N=0 RB_K=0
set -C
until { printf '%s\n' "$1" >"$RB_G/lock.new"; } 2>/dev/null; do
[ -d "$RB_G" ] || lease_refuse "$RB_G was removed meanwhile"
RB_N=$((RB_N+1))
if [ $RB_N -ge 50 ]; then
RB_N=0 RB_K=$((RB_K+1))
[ $RB_K -lt 3 ] || lease_refuse "$RB_G/lock.new cannot be written (disk full, or read-only?)"
rm -f "$RB_G/lock.new"
fi
sleep 0.1 2>/dev/null || sleep 1
done
set +C
trap 'rm -f "$RB_G/lock.new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
r= s= t= o=
{ read -r r s t o <"$RB_G/lock"; } 2>/dev/null
# What cannot be read holds nothing.
case $s in '' | *[!0-9]*) r= s=0 ;; esac
case $t in '' | *[!0-9]*) r= t=0 ;; esac
}
lease_take() {
e=$(mv -f "$RB_G/lock.new" "$RB_G/lock" 2>&1) || lease_refuse "$e"
trap - EXIT
}
# RB_X: the session that is in charge of the run in the folder $1, or 0. RB_Y: since which one its notes are complete.
lease_session() {
RB_X= RB_Y=
{ read -r RB_X RB_Y <"$1/session"; } 2>/dev/null
case $RB_X$RB_Y in *[!0-9]*) RB_X= RB_Y= ;; esac
RB_X=${RB_X:-0}
}
"#;

/// Arguments: run, session, owner, seconds; run, session and expiry of the lease that may be taken over, or three empty ones. Answers: `K`,
/// the state folder, since which session its notes are complete; `H` and who holds it, if somebody else than that does: path of the lock,
/// run, seconds left, owner, session, expiry; `N` where a newer session is in charge.
const ACQUIRE: &str = r#"
case ${XDG_STATE_HOME:-} in
/*) RB_G=$XDG_STATE_HOME/runbook-target ;;
*) if [ -w /var/lib ]; then RB_G=/var/lib/runbook
elif [ -n "${HOME:-}" ]; then RB_G=$HOME/.local/state/runbook-target
else lease_refuse "it has no home directory, and no right to write to /var/lib"; fi ;;
esac
umask 077
d=$RB_G/runs/$1
new=1
[ ! -d "$d" ] || new=
m=0 p=${RB_G%/*}
while [ -n "$p" ] && [ ! -d "$p" ]; do m=$((m+1)) p=${p%/*}; done
# Somebody who gives the machine back may remove a folder in between.
e=$(mkdir -p "$d" 2>&1) || e=$(mkdir -p "$d" 2>&1) || lease_refuse "$e"
[ $m = 0 ] || printf '%s\n' "$m" >"$RB_G/made"
now=$(date +%s)
lease_guard "$1 $2 $((now+$4)) $3"
over=
if [ -n "$r" ] && [ "$r" != "$1" ] && [ "$t" -gt "$now" ]; then
if [ "$r $s $t" != "$5 $6 $7" ]; then
[ -z "$new" ] || rmdir "$d"
printf 'H\0%s\0%s\0%s\0%s\0%s\0%s\0' "$RB_G/lock" "$r" "$((t-now))" "$o" "$s" "$t"
exit
fi
over=$RB_G/runs/$5
fi
lease_session "$d"
if [ "$RB_X" -gt "$2" ] || { [ "$r" = "$1" ] && [ "$s" -gt "$2" ]; }; then printf 'N\0'; exit; fi
[ "$RB_X" -gt 0 ] && [ -n "$RB_Y" ] || RB_Y=$2
e=$({ printf '%s %s\n' "$2" "$RB_Y" >"$d/session"; } 2>&1) || lease_refuse "$e"
y=$RB_Y
lease_take
# Nobody asks for its notes any more; and what of it comes late finds no place to note itself, and refuses.
if [ -n "$over" ]; then
lease_session "$over"
[ "$RB_X" -gt "$6" ] || rm -rf -- "$over"
fi
printf 'K\0%s\0%s\0' "$RB_G" "$y"
"#;

/// Arguments: state folder, run, session, owner, seconds. Answers `K`, or `L` where the lease is lost.
const RENEW: &str = r#"
RB_G=$1
[ -d "$RB_G" ] || { printf 'L\0'; exit; }
now=$(date +%s)
lease_guard "$2 $3 $((now+$5)) $4"
if [ "$r" = "$2" ] && [ "$s" -eq "$3" ]; then lease_take; printf 'K\0'; else printf 'L\0'; fi
"#;

/// Arguments: state folder, run, session, `keep` where the run's folder stays.
const RELEASE: &str = r#"
RB_G=$1
printf 'K\0'
[ -d "$RB_G" ] || exit 0
lease_guard "$2 $3 0 leaving"
if [ "$r" = "$2" ] && [ "$s" -eq "$3" ]; then rm -f "$RB_G/lock"; fi
lease_session "$RB_G/runs/$2"
if [ "$4" != keep ] && [ "$RB_X" -eq "$3" ]; then rm -rf -- "$RB_G/runs/$2"; fi
m=
{ read -r m <"$RB_G/made"; } 2>/dev/null
case $m in *[!0-9]*) m= ;; esac
# The last one to leave takes the folders along that were made for it.
rmdir "$RB_G/runs" 2>/dev/null
if [ -n "$m" ] && [ ! -d "$RB_G/runs" ]; then rm -f "$RB_G/made"; fi
rm -f "$RB_G/lock.new"
trap - EXIT
while rmdir "$RB_G" && [ "${m:-0}" -gt 0 ]; do m=$((m-1)) RB_G=${RB_G%/*}; done 2>/dev/null
:
"#;

/// What this session holds of one machine, for each of its users.
#[derive(Default)]
pub(crate) struct Leases {
    login: Slot,
    root: Slot,
}

#[derive(Default)]
struct Slot {
    lease: tokio::sync::Mutex<Option<Lease>>,
    /// Changes without a known end.
    open: AtomicU32,
}

/// A lease that was taken.
struct Lease {
    held: Held,
    mark: Mark,
    connection: Weak<Connection>,
    /// By the clock that goes on while the controller sleeps; none: it is lost.
    renewed: Arc<Mutex<Option<SystemTime>>>,
    /// With it, the machine is given back.
    ctx: CallContext,
    _renewal: AbortOnDropHandle<()>,
}

/// Where a run's marks are on a machine.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The state folder.
    state: String,
    /// The run's own, in it.
    pub(crate) folder: String,
    /// The session since which the marks there are complete.
    pub(crate) since: u32,
    pub(crate) boot_id: String,
}

/// A change that is being made. It has no known end until [`Open::ended`] says so, whatever becomes of the caller.
pub(crate) struct Open<'a>(&'a Slot);

impl Open<'_> {
    pub(crate) fn ended(self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Leases {
    fn slot(&self, who: Who) -> &Slot {
        match who {
            Who::Login => &self.login,
            Who::Root => &self.root,
        }
    }

    /// A change begins.
    pub(crate) fn open(&self, who: Who) -> Open<'_> {
        let slot = self.slot(who);
        slot.open.fetch_add(1, Ordering::Relaxed);
        Open(slot)
    }

    /// The state folders in which marks must stay, since a change had no known end there.
    pub(crate) async fn in_doubt(&self) -> Vec<(String, String)> {
        let mut places = Vec::new();
        for slot in [&self.login, &self.root] {
            if slot.open.load(Ordering::Relaxed) > 0 {
                places.extend(slot.lease.lock().await.as_ref().map(|lease| lease.held.place()));
            }
        }
        places
    }
}

impl Held {
    /// One machine may go by several names.
    fn place(&self) -> (String, String) {
        (self.boot_id.clone(), self.state.clone())
    }
}

impl Lease {
    fn renewed(&self) -> MutexGuard<'_, Option<SystemTime>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the machine surely still is ours. A connection that was lost took the renewal with it.
    fn is_good(&self, mark: &Mark, connection: &Arc<Connection>, ttl: Duration) -> bool {
        let age = self.renewed().and_then(|then| SystemTime::now().duration_since(then).ok());
        (&self.mark.run, self.mark.session) == (&mark.run, mark.session)
            && Weak::ptr_eq(&self.connection, &Arc::downgrade(connection))
            && age.is_some_and(|age| age < ttl / 2)
    }
}

/// Makes sure that the machine is ours: asks it where that is not known.
///
/// # Errors
///
/// `conflict` where another run holds it, or a newer session of this one.
pub(crate) async fn acquire(
    machine: &Arc<Machine>,
    who: Who,
    mark: &Mark,
    ctx: &CallContext,
) -> Result<Held, CallError> {
    plain(&mark.run)?;
    let slot = machine.leases.slot(who);
    let mut lease = machine.wait(slot.lease.lock(), ctx, "the lease").await?;
    let connection = machine.connection(ctx).await?;
    let ttl = machine.ways.lease;
    if let Some(lease) = lease.as_ref().filter(|lease| lease.is_good(mark, &connection, ttl)) {
        return Ok(lease.held.clone());
    }
    let arguments = [mark.run.clone(), mark.session.to_string(), owner(mark), ttl.as_secs().to_string()];
    let what = "taking the lease";
    let mut over = [const { String::new() }; 3];
    let mut races = 0;
    let (renewed, answer) = loop {
        let renewed = SystemTime::now();
        let all = [&arguments[..], &over].concat();
        let answer = ask(machine, who, Lane::Change, || script(what, ACQUIRE, &all).or("acquire"), ctx).await?;
        let ["H", path, run, left, owner, session, expiry] = answer.iter().map(String::as_str).collect::<Vec<_>>()[..]
        else {
            break (renewed, answer);
        };
        // Whose it is, the machine says. Whether that is one of ours and over, it does not.
        let standing = session.parse().map_or(Standing::Foreign, |session| ctx.runs.standing(run, session));
        if standing != Standing::Over || plain(run).is_err() || races == RACES {
            return Err(taken(machine, &standing, &[path, run, left, owner]));
        }
        races += 1;
        over = [run, session, expiry].map(str::to_owned);
    };
    let mut held = match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["K", state, since] if state.starts_with('/') => Held {
            state: state.to_owned(),
            folder: format!("{state}/runs/{}", mark.run),
            since: since.parse().map_err(|_| garbled(machine))?,
            boot_id: String::new(),
        },
        ["N"] => {
            return Err(CallError::Conflict(format!(
                "{}: a newer session of the run {} is in charge there than session {}",
                machine.name, mark.run, mark.session
            )));
        }
        ["X", why] => return Err(CallError::Failed(format!("{what} on {}: {}", machine.name, shown(why)))),
        _ => return Err(garbled(machine)),
    };
    if let [run, session, _] = &over
        && let Ok(session) = session.parse()
    {
        ctx.progress.took_over(&machine.name, run, session);
    }
    held.boot_id = machine.boot_id(who, ctx).await?;
    let renewed = Arc::new(Mutex::new(Some(renewed)));
    let ctx = CallContext {
        cancel: CancellationToken::new(),
        read_only: false,
        progress: Arc::new(Silent),
        mark: None,
        jail: None,
        ..ctx.clone()
    };
    let renewal = Renewal {
        machine: Arc::downgrade(machine),
        connection: Arc::downgrade(&connection),
        who,
        arguments: [vec![held.state.clone()], arguments.to_vec()].concat(),
        renewed: renewed.clone(),
        ctx: ctx.clone(),
    };
    *lease = Some(Lease {
        held: held.clone(),
        mark: mark.clone(),
        connection: Arc::downgrade(&connection),
        renewed,
        ctx,
        _renewal: AbortOnDropHandle::new(tokio::spawn(renewal.run(ttl / 3))),
    });
    Ok(held)
}

/// Gives back what is held of a machine. Marks stay in the state folders `doubtful`.
pub(crate) async fn release(machine: &Arc<Machine>, doubtful: &[(String, String)]) {
    for who in [Who::Login, Who::Root] {
        let slot = machine.leases.slot(who);
        let Some(lease) = slot.lease.lock().await.take() else { continue };
        let keep = doubtful.contains(&lease.held.place());
        // A machine that was lost in the middle of a change is not waited for once more: the lease ends by itself.
        if keep && machine.live_connection().await.is_none() {
            continue;
        }
        let Lease { held, mark, ctx, .. } = lease;
        let ctx = CallContext { deadline: Instant::now() + SHORT, ..ctx };
        let keep = if keep { "keep" } else { "" };
        let arguments = [held.state, mark.run, mark.session.to_string(), keep.to_owned()];
        let item = || script("giving the lease back", RELEASE, &arguments).or("release");
        let given = ask(machine, who, Lane::Change, item, &ctx).await;
        if let Err(error) = given {
            tracing::warn!(machine = machine.name, %error, "the lease was not given back; it ends by itself");
        }
    }
}

/// Renews a lease while its connection lives.
struct Renewal {
    machine: Weak<Machine>,
    connection: Weak<Connection>,
    who: Who,
    arguments: Vec<String>,
    renewed: Arc<Mutex<Option<SystemTime>>>,
    ctx: CallContext,
}

impl Renewal {
    async fn run(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let Some(machine) = self.machine.upgrade() else { return };
            let live = machine.live_connection().await;
            if !live.is_some_and(|live| Weak::ptr_eq(&Arc::downgrade(&live), &self.connection)) {
                return;
            }
            let now = SystemTime::now();
            let ctx = CallContext { deadline: Instant::now() + SHORT, ..self.ctx.clone() };
            // Not behind a change, which may take longer than the lease.
            let what = "renewing the lease";
            let answer = ask(&machine, self.who, Lane::Look, || script(what, RENEW, &self.arguments), &ctx).await;
            let renewed = match answer {
                Ok(answer) if answer.first().is_some_and(|word| word == "K") => Some(now),
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(machine = machine.name, %error, "the lease was not renewed");
                    continue;
                }
            };
            *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
            if renewed.is_none() {
                return;
            }
        }
    }
}

fn script(what: &str, text: &'static str, arguments: &[String]) -> Item {
    Item::script(what, text, arguments.iter().map(|argument| argument.clone().into_bytes()).collect()).with(&[LEASE])
}

/// The fields of a script's answer.
async fn ask(
    machine: &Arc<Machine>,
    who: Who,
    lane: Lane,
    item: impl Fn() -> Item,
    ctx: &CallContext,
) -> Result<Vec<String>, CallError> {
    let answer = machine.script(who, lane, item, ctx, &[]).await?;
    let text = String::from_utf8_lossy(&answer);
    let fields = text.strip_suffix('\0').ok_or_else(|| garbled(machine))?;
    Ok(fields.split('\0').map(str::to_owned).collect())
}

fn garbled(machine: &Machine) -> CallError {
    CallError::Unreachable(format!("{} gave a garbled answer about its lease", machine.name))
}

fn taken(machine: &Machine, standing: &Standing, [path, run, left, owner]: &[&str; 4]) -> CallError {
    let (path, run, owner) = (shown(path), shown(run), shown(owner));
    let minutes = left.parse::<u64>().map_or_else(|_| "some".to_owned(), |left| left.div_ceil(60).to_string());
    let name = &machine.name;
    let held = format!("{name} is held by the run {run} of {owner}");
    CallError::Conflict(match standing {
        Standing::AtWork => {
            format!("{held}, which is at work on this controller: wait for its end, or end it with Ctrl-C")
        }
        Standing::Unfinished => format!(
            "{held}, which did not come to its end: `runbook next {run}` tells what is open, `runbook resume {run}` goes on with it, and \
             `runbook undo {run}` takes back what it did"
        ),
        // One that is over, too, where others are faster all the time.
        Standing::Foreign | Standing::Over => format!(
            "{held}, for {minutes} more minutes unless that run goes on; wait, end it there with `runbook resume {run}` or \
             `runbook undo {run}`, or, where nobody will, remove {path} on {name}"
        ),
    })
}

/// What somebody else wrote, on one line and not too long.
fn shown(text: &str) -> String {
    tail(text.as_bytes()).chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

fn owner(mark: &Mark) -> String {
    let plain: String = mark.owner.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    if plain.trim().is_empty() { "somebody".to_owned() } else { plain }
}

/// A run's name becomes a path and a word of shell text.
fn plain(run: &str) -> Result<(), CallError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if run.is_empty() || run.starts_with('.') || run.len() > LONGEST || !run.chars().all(plain) {
        return Err(CallError::Invalid(format!("`{run}` is no name of a run: use letters, digits, . _ -")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runs_are_plain_file_names() {
        for good in ["2026-11-26-homelab", "a", "A.b_c-1", "-x"] {
            assert!(plain(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "a\nb", "a'b", "ä", &"x".repeat(200)] {
            assert!(matches!(plain(bad), Err(CallError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn what_others_wrote_is_one_short_line() {
        assert_eq!(shown("a\u{1b}[31m\nb"), "a [31m b");
        assert!(shown(&"x".repeat(10_000)).len() <= LONGEST);
    }
}
