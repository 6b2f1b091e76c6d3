//! What runtimes forgot comes back when it is needed, and nothing that is still in use: not while its namespace is
//! at its path, nor while a process is in it, holds it open, or has it mounted.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::network::{Answer, Network, answer};

/// A network namespace that lives as long as a thread is in it, and a name for it.
struct Namespace {
    name: PathBuf,
    orders: Sender<Order>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

/// What the thread is to do.
enum Order {
    /// Mount the namespace in a mount namespace of the thread's own, and leave it.
    HideInMount,
    End,
}

impl Namespace {
    fn new(dir: &Path) -> Self {
        let name = dir.join("netns");
        let (orders, to_do) = channel();
        let (tell, done) = channel();
        let (link, file) = (name.clone(), dir.join("mounted"));
        let thread = thread::spawn(move || {
            let home = File::open("/proc/thread-self/ns/net").unwrap();
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            symlink(fs::canonicalize("/proc/thread-self").unwrap().join("ns/net"), &link).unwrap();
            tell.send(()).unwrap();
            while let Ok(Order::HideInMount) = to_do.recv() {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                    .unwrap();
                File::create(&file).unwrap();
                let own = Some("/proc/thread-self/ns/net");
                mount(own, &file, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
                setns(&home, CloneFlags::CLONE_NEWNET).unwrap();
                tell.send(()).unwrap();
            }
        });
        done.recv().unwrap();
        Self { name, orders, done, thread }
    }

    fn end(self) {
        self.orders.send(Order::End).unwrap();
        self.thread.join().unwrap();
    }
}

/// One address, held by a pod whose runtime will forget it.
fn forgotten(namespace: &Namespace) -> Network {
    let network = Network::of("10.1.0.0/30");
    assert_eq!(
        answer(network.command("ADD", "old").env("CNI_NETNS", &namespace.name)).addresses(),
        ["10.1.0.2/30"]
    );
    network
}

fn add_new(network: &Network) -> Answer {
    network.add("new")
}

/// Calls until it succeeds: the kernel takes a moment to forget a thread that has ended, and a child that another test
/// is starting holds open what this process does.
fn at_last(mut call: impl FnMut() -> Answer) -> Answer {
    let start = Instant::now();
    loop {
        let answer = call();
        if answer.success || start.elapsed() > Duration::from_secs(10) {
            return answer;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pod_whose_namespace_is_gone_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = forgotten(&namespace);
    add_new(&network).assert_error(100, "no free address");
    fs::remove_file(&namespace.name).unwrap();
    namespace.end();
    assert!(at_last(|| answer(&mut network.command("STATUS", ""))).success, "ADD would succeed");
    assert_eq!(at_last(|| add_new(&network)).addresses(), ["10.1.0.2/30"]);
    let owners: Vec<_> =
        network.leases().into_iter().map(|(owner, _)| owner.container_id().to_owned()).collect();
    assert_eq!(owners, ["new"]);
}

#[test]
fn an_address_asked_for_is_taken_back_from_a_pod_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = Network::of("10.1.0.0/24");
    let ask = |id, netns: &Path| {
        let mut add = network.command("ADD", id);
        answer(add.env("CNI_ARGS", "IP=10.1.0.77").env("CNI_NETNS", netns))
    };
    assert_eq!(ask("web-0", &namespace.name).addresses(), ["10.1.0.77/24"]);
    let here = Path::new("/proc/self/ns/net");
    ask("web-0-again", here).assert_error(108, "eth0 of container web-0 holds it");
    fs::remove_file(&namespace.name).unwrap();
    namespace.end();
    assert_eq!(at_last(|| ask("web-0-again", here)).addresses(), ["10.1.0.77/24"]);
}

#[test]
fn another_namespace_at_the_same_path_is_not_the_pods() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = forgotten(&namespace);
    fs::remove_file(&namespace.name).unwrap();
    // Made before the first one goes, so that the kernel cannot give it the same number.
    let other = Namespace::new(dir.path());
    namespace.end();
    assert_eq!(at_last(|| add_new(&network)).addresses(), ["10.1.0.2/30"]);
    other.end();
}

#[test]
fn a_namespace_that_a_process_is_in_is_in_use_without_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = forgotten(&namespace);
    fs::remove_file(&namespace.name).unwrap();
    add_new(&network).assert_error(100, "no free address");
    answer(&mut network.command("STATUS", "")).assert_error(50, "no free address");
    namespace.end();
    assert!(at_last(|| add_new(&network)).success);
}

#[test]
fn a_namespace_that_a_process_holds_open_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = forgotten(&namespace);
    let held = File::open(&namespace.name).unwrap();
    fs::remove_file(&namespace.name).unwrap();
    namespace.end();
    add_new(&network).assert_error(100, "no free address");
    drop(held);
    assert!(at_last(|| add_new(&network)).success);
}

#[test]
fn a_namespace_that_is_mounted_anywhere_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = forgotten(&namespace);
    namespace.orders.send(Order::HideInMount).unwrap();
    namespace.done.recv().unwrap();
    fs::remove_file(&namespace.name).unwrap();
    add_new(&network).assert_error(100, "no free address");
    namespace.end();
    assert!(at_last(|| add_new(&network)).success);
}

#[test]
fn gc_takes_back_what_runtimes_forgot_even_if_it_names_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let namespace = Namespace::new(dir.path());
    let network = forgotten(&namespace);
    let gc = || assert!(answer(&mut network.command("GC", "")).success);
    gc();
    assert_eq!(network.leases().len(), 1);
    fs::remove_file(&namespace.name).unwrap();
    namespace.end();
    let start = Instant::now();
    while !network.leases().is_empty() && start.elapsed() < Duration::from_secs(10) {
        gc();
    }
    assert_eq!(network.leases(), []);
}
