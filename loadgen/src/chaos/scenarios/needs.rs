//! What scenarios need that may not be on this machine: each says what is missing, if it is.

use stockloop_tests::disk::SmallDisk;
use stockloop_tests::postgres::{BASE_BACKUP, Binaries, PgBouncer};

use super::super::clock;
use super::super::instance::Releases;

pub(super) fn nothing(_: &Releases) -> Option<String> {
    None
}

pub(super) fn pooler(_: &Releases) -> Option<String> {
    (!PgBouncer::is_installed()).then(|| "PgBouncer is not installed".to_owned())
}

pub(super) fn library(_: &Releases) -> Option<String> {
    clock::missing()
}

pub(super) fn small_disk(_: &Releases) -> Option<String> {
    SmallDisk::missing()
}

pub(super) fn standby(_: &Releases) -> Option<String> {
    Binaries::with(BASE_BACKUP).err().map(|error| format!("{error:#}"))
}

pub(super) fn release_before(releases: &Releases) -> Option<String> {
    let words = "--old-programs does not say where the programs of the last release are";
    releases.before.is_none().then(|| words.to_owned())
}
