use std::fs;
use std::io::ErrorKind;

use stockloop_tests::real;

#[test]
fn a_small_disk_is_full_until_it_is_cleared() {
    let Some(disk) = real::small_disk(4) else { return };
    let file = disk.folder().join("file");
    disk.fill(0).unwrap();
    let full = fs::write(&file, [1_u8; 100_000]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    disk.fill(1 << 20).unwrap();
    fs::write(&file, [1_u8; 100_000]).unwrap();
    disk.clear().unwrap();
    disk.clear().unwrap();
    fs::write(&file, vec![1_u8; 2_000_000]).unwrap();
}
