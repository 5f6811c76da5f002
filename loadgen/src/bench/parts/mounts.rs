//! What a folder lies on, as Linux tells it.

use std::fs;
use std::path::Path;

/// The kind of file system that `folder` lies on, if that keeps its files in memory.
pub(in crate::bench) fn in_memory(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let kind = kind_of(&mounts, &folder)?;
    matches!(kind, "tmpfs" | "ramfs").then(|| kind.to_owned())
}

fn kind_of<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (plain(fields.next()?), fields.next()?);
        folder.starts_with(&place).then_some((place.len(), kind))
    });
    // Of several at one place the last one counts, and that is what this takes.
    above.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

/// A path as it is: its white space is written in octal digits there.
fn plain(place: &str) -> String {
    let spaces = place.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n");
    spaces.replace(r"\134", r"\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = r"/dev/sda1 / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
/dev/sdb1 /tmp/on\040disk xfs rw 0 0
/dev/sdc1 /var ext4 rw 0 0
ramfs /var ramfs rw 0 0
";

    #[test]
    fn the_nearest_file_system_above_counts() {
        let kind = |folder: &str| kind_of(MOUNTS, Path::new(folder));
        assert_eq!(kind("/home"), Some("ext4"));
        assert_eq!(kind("/tmp/a/b"), Some("tmpfs"));
        assert_eq!(kind("/tmpfile"), Some("ext4"));
        assert_eq!(kind("/tmp/on disk/a"), Some("xfs"));
        assert_eq!(kind("/var"), Some("ramfs"));
        assert_eq!(kind_of("", Path::new("/")), None);
    }
}
