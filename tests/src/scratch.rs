//! One scratch folder and one janitor per test process: a shell that outlives the process by a
//! moment, ends the children that are left and removes the folder.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Write;
use std::mem;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::Context;

use crate::once::Once;

// Its standard input ends when this process does, by whatever cause: that is the signal to clean up.
const JANITOR: &str = r#"
# An ended process that nobody has reaped yet has no command line left.
alive() { kill -s 0 -- "-$1" && { [ ! -d "/proc/$1" ] || grep -q . "/proc/$1/cmdline"; }; }
scratch=$1 is_removed=$2
children= disks=
while read -r verb pid signal; do
  case $verb in
    watch) children="$children $pid:$signal" ;;
    forget)
      kept=
      for c in $children; do [ "${c%%:*}" = "$pid" ] || kept="$kept $c"; done
      children=$kept ;;
    disk) disks="$disks $pid" ;;
    # With the disks there are by now.
    keep) is_removed= disks= ;;
  esac
done
for c in $children; do kill -s "${c#*:}" -- "-${c%%:*}"; done
tries=0
while [ $tries -lt 50 ]; do
  left=
  for c in $children; do alive "${c%%:*}" && left=1; done
  [ "$left" ] || break
  sleep 0.1
  tries=$((tries + 1))
done
for c in $children; do kill -s KILL -- "-${c%%:*}"; done
# Most have gone by themselves, which is no matter.
for name in $disks; do umount -l "$scratch/$name"; done
[ "$is_removed" ] && rm -rf -- "$scratch"
"#;

struct Scratch {
    root: PathBuf,
    janitor: Mutex<ChildStdin>,
    counter: AtomicUsize,
}

static SCRATCH: Once<Scratch> = Once::new();

/// Whether [`keep`] holds for what comes.
static KEPT: AtomicBool = AtomicBool::new(false);

/// A folder of its own under the scratch folder; what is in it goes with this value, unless it is kept.
#[derive(Debug)]
pub struct ScratchFolder(PathBuf);

impl ScratchFolder {
    /// A new one, `<name>-<n>`.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        folder(name).map(Self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        discard(mem::take(&mut self.0));
    }
}

/// A new folder `<name>-<n>` under this process's scratch folder.
pub(crate) fn folder(name: &str) -> anyhow::Result<PathBuf> {
    let path = path(name)?;
    fs::create_dir(&path).with_context(|| format!("could not create {}", path.display()))?;
    Ok(path)
}

/// A path `<name>-<n>` under the scratch folder where nothing is yet.
pub(crate) fn path(name: &str) -> anyhow::Result<PathBuf> {
    let scratch = scratch()?;
    let number = scratch.counter.fetch_add(1, Ordering::Relaxed);
    Ok(scratch.root.join(format!("{name}-{number}")))
}

/// The scratch folder itself.
pub(crate) fn root() -> anyhow::Result<&'static Path> {
    Ok(&scratch()?.root)
}

/// Whether this process is root's: a folder that it made belongs to its effective user.
pub(crate) fn is_of_root() -> anyhow::Result<bool> {
    Ok(fs::metadata(root()?)?.uid() == 0)
}

/// Removes a folder in the background; what isn't gone when this process ends, the janitor takes.
pub(crate) fn discard(folder: PathBuf) {
    if !keeps() {
        thread::spawn(move || fs::remove_dir_all(folder));
    }
}

/// Has the process group `pid` ended with `signal` (later with KILL) when this process is gone.
pub(crate) fn watch(pid: u32, signal: &str) -> anyhow::Result<()> {
    tell(&format!("watch {pid} {signal}\n"))
}

/// Takes back [`watch`] once the child has been reaped, since its number may be given out again.
pub(crate) fn forget(pid: u32) -> anyhow::Result<()> {
    tell(&format!("forget {pid}\n"))
}

/// Has what is about to be mounted on `folder`, one of [`folder`]'s, unmounted when this process is gone, unless it is kept.
pub(crate) fn watch_disk(folder: &Path) -> anyhow::Result<()> {
    let name = folder.file_name().and_then(OsStr::to_str).context("a disk's folder has a name")?;
    if keeps() { Ok(()) } else { tell(&format!("disk {name}\n")) }
}

/// Has the scratch folder stay, with the logs, and from now on the data of what ends; returns where it is.
pub fn keep() -> anyhow::Result<&'static Path> {
    KEPT.store(true, Ordering::SeqCst);
    tell("keep\n")?;
    root()
}

/// Has the data of what ends from now on removed again; what is kept already stays.
pub fn discard_again() {
    KEPT.store(false, Ordering::SeqCst);
}

fn tell(line: &str) -> anyhow::Result<()> {
    let mut janitor = scratch()?.janitor.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    janitor
        .write_all(line.as_bytes())
        .context("the shell that cleans up after the tests is gone; was it killed from outside?")
}

fn scratch() -> anyhow::Result<&'static Scratch> {
    SCRATCH.get(start)
}

/// Whether the scratch folder stays for whoever wants to look into it.
pub(crate) fn keeps() -> bool {
    let asked = std::env::var_os("STOCKLOOP_TESTS_KEEP").is_some_and(|value| value == "1");
    asked || KEPT.load(Ordering::SeqCst)
}

fn start() -> anyhow::Result<Scratch> {
    let root = tempfile::Builder::new()
        .prefix("stockloop-tests-")
        .tempdir()
        .context("could not create a scratch folder; is TMPDIR writable?")?
        .keep();
    // PostgreSQL may run as another user and must be able to pass through.
    fs::set_permissions(&root, Permissions::from_mode(0o711))?;
    let is_removed = if keeps() { "" } else { "yes" };
    let janitor = Command::new("sh")
        .args(["-c", JANITOR, "stockloop-tests-janitor"])
        .arg(&root)
        .arg(is_removed)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own, so that Ctrl-C at the test run doesn't end it with the tests.
        .process_group(0)
        .spawn()
        .context("could not start `sh`, which cleans up after the tests")?;
    let janitor = janitor.stdin.context("the cleaning shell has no standard input")?;
    Ok(Scratch { root, janitor: Mutex::new(janitor), counter: AtomicUsize::new(0) })
}
