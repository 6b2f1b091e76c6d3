//! Opening the store of this boot, and making it so that nobody ever finds it half made.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use heed::{CommitOrAbort, EnvFlags, EnvOpenOptions, MdbError, types::Bytes};

use super::{FORMAT, Store, key};
use crate::{Clock, Error};

/// Size of the file: room for a quarter of a million leases. It is a hole, which takes memory only as it is used, by
/// about 500 bytes a lease; and it is there from the beginning, so that a file that is shorter was cut.
pub(super) const SIZE: usize = 128 << 20;
/// Processes that may read at one moment. Each takes 64 bytes.
const MAX_READERS: u32 = 1024;

impl Store {
    /// Opens the store in folder `dir`, making it if it is not there.
    ///
    /// What an earlier boot left in the folder is forgotten: its pods are gone.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with_clock(dir, Clock::boot_time())
    }

    /// Opens the store in folder `dir`, with a clock that is not the kernel's.
    pub fn open_with_clock(dir: &Path, clock: Clock) -> Result<Self, Error> {
        let path = dir.join(boot_id()?);
        if !path.exists() {
            create(dir, &path)?;
        }
        Self::open_checked(&path, clock)
    }

    /// Opens the store in folder `dir`, if it is there.
    pub fn open_existing(dir: &Path) -> Result<Option<Self>, Error> {
        let path = dir.join(boot_id()?);
        if path.exists() { Self::open_checked(&path, Clock::boot_time()).map(Some) } else { Ok(None) }
    }

    fn open_checked(path: &Path, clock: Clock) -> Result<Self, Error> {
        let store = open(path, clock)?;
        let whole = store.is_whole()?;
        // Processes killed while reading leave their slot behind.
        store.env.clear_stale_readers().map_err(store.failed())?;
        store.bring_up_to_date(whole)?;
        Ok(store)
    }

    /// True if the file has its full size, false if it may be of the first format, whose files grew. One that was cut
    /// short must not be read: the kernel answers that with a signal.
    fn is_whole(&self) -> Result<bool, Error> {
        let size = self.env.real_disk_size().map_err(self.failed())?;
        let last_page = self.env.info().last_page_number as u64;
        let used = (last_page + 1) * u64::from(self.env.unnamed_database_stat().page_size);
        if size < used {
            return Err(self.cut_short());
        }
        Ok(size >= SIZE as u64)
    }

    pub(super) fn cut_short(&self) -> Error {
        self.damaged("it was cut short")
    }

    /// Gives the file its full size. To be called under the writer's lock: it must not cross with a growing write, and
    /// changes nothing that anybody has read.
    pub(super) fn make_whole(&self) -> Result<(), Error> {
        let file = self.env.try_clone_inner_file().map_err(self.failed())?;
        file.set_len(SIZE as u64).map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

/// Names this boot of the machine (random(4)).
fn boot_id() -> Result<String, Error> {
    let file = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(file).map_err(|source| Error::Io { path: file.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

/// Makes the store beside its place and moves it there whole, unless another process was quicker.
fn create(dir: &Path, path: &Path) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    fs::create_dir_all(dir).map_err(io)?;
    let _lock = lock(dir).map_err(io)?;
    if path.exists() {
        return Ok(());
    }
    remove_folders(dir).map_err(io)?;
    let beside = path.with_extension("new");
    fs::DirBuilder::new().mode(0o700).create(&beside).map_err(io)?;
    let store = open(&beside, Clock::boot_time())?;
    let mut txn = store.env.write_txn().map_err(store.failed())?;
    store.put(&mut txn, key::FORMAT, &FORMAT.to_le_bytes())?;
    store.make_whole()?;
    txn.commit().map_err(store.failed())?;
    drop(store);
    fs::rename(&beside, path).map_err(io)
}

/// Held by the one process that makes the store. The kernel lets go of it when its holder dies.
fn lock(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(dir.join("making.lock"))?;
    loop {
        match file.lock() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(|()| file),
        }
    }
}

/// Removes the stores of earlier boots, and what a maker that died left half made. To be called under the lock,
/// and before this boot's store is there: then no folder is anybody's.
fn remove_folders(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn open(path: &Path, clock: Clock) -> Result<Store, Error> {
    let mut options = EnvOpenOptions::new();
    options.map_size(SIZE).max_readers(MAX_READERS);
    // SAFETY: without syncing, a crash of the machine may tear the file; but a store is never read in another
    // boot than its own. Processes may crash as they like: what they wrote is in the page cache.
    unsafe { options.flags(EnvFlags::NO_SYNC) };
    // SAFETY: the map is unsound only if the file changes under it by other means than LMDB's. It is in a
    // folder of its own that only root can enter, on a local file system, and every process goes through this
    // crate.
    let env = unsafe { options.open(path) }.map_err(failed(path))?;
    let txn = env.read_txn().map_err(failed(path))?;
    let opened = env.open_databases_and_commit(txn, |opener, txn| {
        opener.open_database::<Bytes, Bytes>(txn, None).map(CommitOrAbort::<_, ()>::Commit)
    });
    let table = opened.map_err(failed(path))?.commit().flatten();
    let table =
        table.ok_or_else(|| Error::Damaged { path: path.to_owned(), what: "it has no table".to_owned() })?;
    Ok(Store { env, table, path: path.to_owned(), clock })
}

/// Sorts the library's errors by what a person can do about them.
pub(super) fn failed(path: &Path) -> impl Fn(heed::Error) -> Error {
    let path: PathBuf = path.to_owned();
    move |error| {
        let path = path.clone();
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Error::Full { path },
            heed::Error::Io(source) => Error::Io { path, source },
            heed::Error::Mdb(
                what @ (MdbError::Corrupted
                | MdbError::Invalid
                | MdbError::PageNotFound
                | MdbError::Panic
                | MdbError::VersionMismatch),
            ) => Error::Damaged { path, what: what.to_string() },
            other => Error::Failed { path, source: Box::new(other) },
        }
    }
}
