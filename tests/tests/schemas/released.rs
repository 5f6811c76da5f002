//! docs/schemas/released is what was released: it changes with the version and not otherwise.
//!
//! RELEASE names the version and has the digest of each file, so that none changes without it. That RELEASE itself only
//! changes with the version, git knows; where there is no history (an unpacked archive), nothing can be held against it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const RELEASE: &str = "docs/schemas/released/RELEASE";

/// The lines of RELEASE: the version as Cargo.toml writes it, then what `sha256sum` says of the schemas.
fn lines_of(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

fn release() -> String {
    std::fs::read_to_string(Path::new(ROOT).join(RELEASE)).expect(RELEASE)
}

/// What git says; none where it has nothing to say.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(ROOT).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn version_at(commit: &str) -> Option<String> {
    let manifest: toml::Table = git(&["show", &format!("{commit}:./Cargo.toml")])?.parse().ok()?;
    let version = manifest.get("workspace")?.get("package")?.get("version")?.as_str()?;
    Some(version.to_owned())
}

#[test]
fn the_release_has_the_version_and_the_digests_of_its_schemas() {
    let mut there = BTreeSet::from([format!("version = {:?}", env!("CARGO_PKG_VERSION"))]);
    for entry in Path::new(ROOT).join(RELEASE).parent().expect("its folder").read_dir().unwrap() {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name != "RELEASE" {
            let digest = hex::encode(Sha256::digest(std::fs::read(&path).expect("a file")));
            there.insert(format!("{digest}  {name}"));
        }
    }
    assert_eq!(lines_of(&release()), there, "{RELEASE}: see docs/schemas/README.md, At a release");
}

#[test]
fn a_release_is_made_with_its_version_only() {
    let log = git(&["log", "--format=%H", "--no-merges", "--", RELEASE]).unwrap_or_default();
    let commits: Vec<&str> = log.lines().collect();
    // The first one, or the end of a shallow history, only says what there was.
    let [changes @ .., _] = &*commits else { return };
    for commit in changes {
        let (before, after) = (version_at(&format!("{commit}^")), version_at(commit));
        assert_ne!(before, after, "{commit} changes {RELEASE}, and the version stays");
    }
    let committed = git(&["show", &format!("HEAD:./{RELEASE}")]);
    if committed.is_some_and(|committed| committed != release()) {
        let (before, now) = (version_at("HEAD"), env!("CARGO_PKG_VERSION"));
        assert_ne!(before.as_deref(), Some(now), "{RELEASE} is changed, and the version stays");
    }
}
