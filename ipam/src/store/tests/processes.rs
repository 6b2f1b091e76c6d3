//! Many processes at once, and processes killed in the middle.

use std::{
    env,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{assert_consistent, owner, set};
use crate::{Error, Owner, Request, Store};

const CHILD: &str = "BEELINE_IPAM_TEST_STORE";

/// Not a test of its own: what the processes of the tests below do, until they are killed or have done
/// enough.
#[test]
fn child() {
    let Some(path) = env::var_os(CHILD) else { return };
    let id = std::process::id() as usize;
    for n in 0.. {
        // Opening anew each time is what the plugin does.
        let store = Store::open(Path::new(&path)).unwrap();
        let who = Owner::new(format!("process{id}-{}", n % 3), "eth0").unwrap();
        match store.reserve(&Request::new(&who, &[set("10.0.0.0/25")])) {
            Ok(_) | Err(Error::Exhausted { .. }) => {}
            Err(Error::Held { .. }) => drop(store.release(&who).unwrap()),
            Err(other) => panic!("{other}"),
        }
    }
}

const MAKER: &str = "BEELINE_IPAM_TEST_FOLDERS";
const FOLDERS: usize = 100;

/// Not a test of its own either: opens one fresh folder after the other. Whoever makes a store falls behind and
/// finds the next ones made, so that many processes stay together by themselves.
#[test]
fn maker() {
    let Some(dir) = env::var_os(MAKER) else { return };
    let who = owner(std::process::id() as usize);
    for n in 0..FOLDERS {
        let store = Store::open(&Path::new(&dir).join(n.to_string())).unwrap();
        store.reserve(&Request::new(&who, &[set("10.0.0.0/25")])).unwrap();
    }
}

/// Starts `test` of this program with `variable` set to `path`.
fn spawn(test: &str, variable: &str, path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("store::tests::processes::{test}"), "--nocapture"])
        .env(variable, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn processes_that_open_a_fresh_folder_at_once_share_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut makers: Vec<_> = (0..8).map(|_| spawn("maker", MAKER, dir.path())).collect();
    for maker in &mut makers {
        assert!(maker.wait().unwrap().success(), "a process could not open a store");
    }
    for n in 0..FOLDERS {
        let folder = dir.path().join(n.to_string());
        let store = Store::open(&folder).unwrap();
        assert_eq!(assert_consistent(&store, &[set("10.0.0.0/25")]), makers.len());
    }
}

#[test]
fn killing_at_any_instant_neither_leaks_nor_doubles() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ipam");
    let sets = [set("10.0.0.0/25")];
    let mut survived = 0;
    for round in 0..12_u64 {
        // The first round's processes also race to make the store.
        let mut children: Vec<_> = (0..6).map(|_| spawn("child", CHILD, &path)).collect();
        for (i, child) in children.iter().enumerate() {
            thread::sleep(Duration::from_micros(7_000 + 977 * ((round * 6 + i as u64) % 11)));
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
        }
        for child in &mut children {
            let status = child.wait().unwrap();
            assert!(!status.success() && status.code().is_none(), "a process failed by itself: {status}");
        }
        let store = Store::open(&path).unwrap();
        survived += assert_consistent(&store, &sets);
        for (owner, _) in store.leases().unwrap() {
            store.release(&owner).unwrap();
        }
        assert_eq!(assert_consistent(&store, &sets), 0);
    }
    assert!(survived > 0, "the processes were killed before they did anything");
}
