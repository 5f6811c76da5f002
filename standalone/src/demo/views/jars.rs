//! Jars from Maven, fetched once and kept in the user's cache folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};
use tokio::process::Command;

use super::java::run_to_end;

const GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// The folder of what `pom` depends on, which appears whole or not at all. Its name changes with the POM.
pub(super) async fn jars_of(name: &str, pom: &str) -> anyhow::Result<PathBuf> {
    let cache = cache_folder()?;
    let digest = hex::encode(Sha256::digest(pom));
    let whole = cache.join(format!("{name}-{}", digest.get(..12).unwrap_or(&digest)));
    if whole.is_dir() {
        return Ok(whole);
    }
    let in_cache = || format!("the cache folder {} can't be written", cache.display());
    fs::create_dir_all(&cache).with_context(in_cache)?;
    let partial = tempfile::tempdir_in(&cache).with_context(in_cache)?;
    println!("Fetching {name} into {} with Maven, once.", whole.display());
    let jars = fetch(pom, partial.path()).await?;
    match fs::rename(jars, &whole) {
        // Another run may have been quicker.
        Err(error) if !whole.is_dir() => Err(error).with_context(in_cache),
        _ => Ok(whole),
    }
}

async fn fetch(pom: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let (file, jars) = (folder.join("pom.xml"), folder.join("jars"));
    fs::write(&file, pom).with_context(|| format!("{} can't be written", file.display()))?;
    let mut maven = Command::new("mvn");
    maven
        .args(["--batch-mode", "--no-transfer-progress", GOAL, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .current_dir(folder);
    run_to_end(&mut maven, "Maven, which --views needs,").await?;
    Ok(jars)
}

/// `$XDG_CACHE_HOME/stockloop`, or the same in `~/.cache`.
fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|it| it.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = cache.context("there is no place for --views' jars; set HOME or XDG_CACHE_HOME")?;
    Ok(cache.join("stockloop"))
}
