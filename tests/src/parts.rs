//! Parts that are fetched once and kept in the target folder, and the workspace's own binaries.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

use crate::process::Launch;
use crate::scratch;

const FETCH_DEADLINE: Duration = Duration::from_secs(600);
const MAVEN_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// The folder `target/real-parts/<name>`; if it isn't there yet, `make` fills it.
///
/// One process makes it while others wait, and it appears whole or not at all.
pub(crate) fn kept(
    name: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let parts = target_folder()?.join("real-parts");
    let whole = parts.join(name);
    if whole.is_dir() {
        return Ok(whole);
    }
    fs::create_dir_all(&parts).with_context(|| format!("could not create {}", parts.display()))?;
    let lock = File::create(parts.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("could not lock {name} in {}", parts.display()))?;
    if whole.is_dir() {
        return Ok(whole);
    }
    // Not eprintln!: whoever waits for the first download should see why.
    let _ = writeln!(std::io::stderr(), "preparing {name} in {} (once)", parts.display());
    let partial = parts.join(format!("{name}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir(&partial)?;
    make(&partial).with_context(|| format!("could not prepare {name}"))?;
    fs::rename(&partial, &whole)
        .with_context(|| format!("could not move {name} to {}", whole.display()))?;
    Ok(whole)
}

/// The jars that `pom` depends on, kept under a name that changes with it, so that nobody keeps old ones.
pub(crate) fn jars_of(name: &str, pom: &str) -> anyhow::Result<PathBuf> {
    let digest = hex::encode(Sha256::digest(pom));
    let name = format!("{name}-{}", digest.get(..12).unwrap_or(&digest));
    kept(&name, |folder| maven_of(pom, "copy-dependencies", &name, folder))
}

/// Has Maven carry out `goal` of its dependency plugin for `artifacts` (group:artifact:version).
pub(crate) fn maven(goal: &str, artifacts: &[&str], into: &Path) -> anyhow::Result<()> {
    let dependencies: String = artifacts.iter().map(|artifact| dependency(artifact)).collect();
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>stockloop</groupId><artifactId>real-parts</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    );
    maven_of(&pom, goal, &artifacts.join(", "), into)
}

/// The same for the dependencies of `pom`; `what` is how messages call them.
fn maven_of(pom: &str, goal: &str, what: &str, into: &Path) -> anyhow::Result<()> {
    let folder = scratch::folder("maven")?;
    fs::write(folder.join("pom.xml"), pom)?;
    let mut run = Launch::new("mvn")
        .args(["--batch-mode", "--no-transfer-progress"])
        .arg(format!("{MAVEN_PLUGIN}:{goal}"))
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", into.display()))
        .folder(folder)
        .spawn()?;
    let status = run.wait_for_exit(FETCH_DEADLINE)?;
    ensure!(
        status.success(),
        "Maven could not fetch {what}; are `mvn` on PATH and its repository reachable?\n{}",
        run.log_tail()
    );
    Ok(())
}

fn dependency(artifact: &str) -> String {
    let mut fields = artifact.split(':');
    let mut next = || fields.next().unwrap_or_default();
    format!(
        "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>",
        next(),
        next(),
        next()
    )
}

/// The binary `name` of this workspace, built in the same profile as the running test.
///
/// Fails if it isn't built or is older than its sources, so that no test runs yesterday's code. `cargo test
/// --workspace` builds it for the tests of its own package, and then leaves no list of its sources.
pub fn built_binary(name: &str) -> anyhow::Result<PathBuf> {
    let advice = "run `cargo build --workspace --bins` (with the profile of the tests) first";
    let test = std::env::current_exe()?;
    let profile = test
        .ancestors()
        .find(|folder| folder.join("deps").is_dir())
        .context("the running test does not lie in a cargo target folder")?;
    let binary = profile.join(name);
    let built = modified(&binary)
        .with_context(|| format!("{} is not built; {advice}", binary.display()))?;
    let Ok(rule) = fs::read_to_string(profile.join(format!("{name}.d"))) else {
        return Ok(binary);
    };
    let sources = rule.split_once(": ").map_or("", |(_, sources)| sources);
    // Spaces inside a path are written as "\ ".
    for source in sources.trim_end().replace("\\ ", "\0").split(' ') {
        let source = PathBuf::from(source.replace('\0', " "));
        let changed = modified(&source).ok();
        ensure!(
            changed.is_some_and(|changed| changed <= built),
            "{} is older than {}; {advice}",
            binary.display(),
            source.display()
        );
    }
    Ok(binary)
}

fn modified(path: &Path) -> anyhow::Result<SystemTime> {
    Ok(fs::metadata(path)?.modified()?)
}

/// Cargo's target folder, found from the running test binary, else the workspace's default one.
fn target_folder() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("could not tell where the running test lies")?;
    let marked = test.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    Ok(marked
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_path_buf))
}
