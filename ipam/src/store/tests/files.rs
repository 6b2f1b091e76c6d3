//! What is in the store's folder when it is opened: nothing, an older release's store, a later one's, a damaged one.

use std::{
    fs::{self, File},
    path::Path,
};

use super::{Bench, address, addresses, assert_consistent, holder, owner, set};
use crate::{
    Error, Request, Store,
    store::{key, open::SIZE},
};

/// Changes the store at `dir` below the library's feet.
fn change(dir: &Path, entries: &[(&[u8], &[u8])]) {
    let store = Store::open(dir).unwrap();
    let mut txn = store.env.write_txn().unwrap();
    store.table.clear(&mut txn).unwrap();
    for (key, value) in entries {
        store.put(&mut txn, key, value).unwrap();
    }
    txn.commit().unwrap();
}

#[test]
fn a_store_of_the_first_format_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let owned = |n| owner(n).to_bytes();
    let v6 = [b"a".as_slice(), &[0xfd; 16]].concat();
    change(
        dir.path(),
        &[
            (key::FORMAT, &1_u32.to_le_bytes()),
            (b"a\x0a\x00\x00\x02", &owned(1)),
            // Its first byte is the digit that begins the keys of format 2.
            (b"a\x34\x00\x00\x03", &owned(2)),
            (&v6, &owned(2)),
            (&key::owner(&owner(1)), br#"{"addresses":["10.0.0.2"],"since":1700000000}"#),
            (
                &key::owner(&owner(2)),
                br#"{"addresses":["52.0.0.3","fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd"],"since":1700000000}"#,
            ),
            (b"l10.0.0.0/24", b"\x0a\x00\x00\x02"),
        ],
    );
    // Files of the first format were as long as what was in them.
    let file = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path().join("data.mdb"));
    let file = file.into_iter().find(|path| path.exists()).unwrap();
    File::options().write(true).open(&file).unwrap().set_len(40 * 4096).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), SIZE as u64);
    let sets = [set("10.0.0.0/24"), set("52.0.0.0/24"), set("fdfd::/16")];
    assert_eq!(assert_consistent(&store, &sets), 2);
    assert_eq!(
        store.reserve(&Request::new(&owner(3), &sets[..1])).unwrap().addresses,
        addresses(&["10.0.0.3"])
    );
    assert_eq!(store.release(&owner(1)).unwrap().unwrap().addresses, addresses(&["10.0.0.2"]));
    assert_eq!(store.orphans().unwrap(), [], "leases that name no sandbox are nobody's to take back");
    drop(store);
    let store = Store::open_existing(dir.path()).unwrap().expect("it was there");
    assert_eq!(holder(&store, address("52.0.0.3")), Some(owner(2)));
}

#[test]
fn a_store_of_a_later_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    change(dir.path(), &[(key::FORMAT, &3_u32.to_le_bytes())]);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, Error::Format { found: 3, .. }), "{error}");
    assert!(error.to_string().contains("has format 3, this release knows up to 2"), "{error}");
}

#[test]
fn a_store_without_a_format_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    change(dir.path(), &[]);
    assert!(matches!(Store::open(dir.path()), Err(Error::Damaged { .. })));
}

#[test]
fn entries_that_cannot_be_read_are_told_and_never_passed_over() {
    let sets = [set("10.0.0.0/24")];
    let garbage: [(&[u8], &[u8]); 3] =
        [(b"4\x0a\x00\x00\x02", b"?"), (b"4\x0a\x00\x00\x02\x00", b"h"), (&key::owner(&owner(1)), b"{")];
    for (key, value) in garbage {
        let dir = tempfile::tempdir().unwrap();
        change(dir.path(), &[(key::FORMAT, &2_u32.to_le_bytes()), (key, value)]);
        let store = Store::open(dir.path()).unwrap();
        let results = [
            store.leases().map(drop),
            store.usage(&sets[0]).map(drop),
            store.lease(&owner(1)).map(drop),
            store.reserve(&Request::new(&owner(1), &sets)).map(drop),
        ];
        let told = results.iter().any(|result| matches!(result, Err(Error::Damaged { .. })));
        assert!(told, "{key:?}: {results:?}");
    }
}

#[test]
fn a_file_that_was_cut_short_is_refused() {
    let page = 4096;
    for size in [0, 1, page, 2 * page, 3 * page, 40 * page, SIZE as u64 - 1] {
        let bench = Bench::new();
        for n in 0..200 {
            bench.store.reserve(&Request::new(&owner(n), &[set("10.0.0.0/16")])).unwrap();
        }
        let Bench { store, dir, .. } = bench;
        let file = store.path.join("data.mdb");
        drop(store);
        File::options().write(true).open(&file).unwrap().set_len(size).unwrap();
        match Store::open(dir.path()) {
            Err(Error::Damaged { path, .. }) => assert!(file.starts_with(path)),
            other => panic!("cut to {size} bytes: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open_existing(dir.path()).unwrap().is_none());
    let file = Store::open(dir.path()).unwrap().path.join("data.mdb");
    fs::write(&file, "no LMDB file at all ".repeat(1000)).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(Error::Damaged { .. })));
}

#[test]
fn what_an_earlier_boot_or_a_dead_maker_left_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.reserve(&Request::new(&owner(1), &[set("10.0.0.0/24")])).unwrap();
    let (now, earlier) = (store.path.clone(), dir.path().join("00000000-0000-4000-8000-000000000000"));
    drop(store);
    fs::rename(&now, &earlier).unwrap();
    let half_made = now.with_extension("new");
    fs::create_dir(&half_made).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.leases().unwrap(), []);
    assert!(!earlier.exists() && !half_made.exists());
}

#[test]
fn a_store_that_grew_and_shrank_is_whole() {
    let mut bench = Bench::new();
    let sets = [set("10.0.0.0/16"), set("fd00::/64")];
    for round in 0..40 {
        for n in 0..60 {
            bench.store.reserve(&Request::new(&owner(round * 1000 + n), &sets)).unwrap();
        }
        let kept = round % 7;
        bench.store.retain(|who, _| (0..kept).any(|n| owner(round * 1000 + n) == *who)).unwrap();
        bench.wait(if round % 3 == 0 { 31 } else { 5 });
        bench = bench.reopened();
    }
    assert_eq!(assert_consistent(&bench.store, &sets), 40 % 7 - 1);
}
