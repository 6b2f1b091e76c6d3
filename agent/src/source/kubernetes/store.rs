//! Objects of one kind, as the API server listed them and has changed them since.
//!
//! A list that is read again (after an interruption that was too long to catch up) comes object by object while the
//! old ones stay; only when it is complete do those go that it did not name. So nothing is held twice, and there is
//! no moment at which something is missing.

use std::collections::BTreeMap;

use super::objects::Name;

/// The objects.
pub(super) struct Store<T> {
    objects: BTreeMap<Name, Kept<T>>,
    /// Counts the lists.
    list: u32,
    /// True once a list has been read to its end.
    complete: bool,
}

struct Kept<T> {
    /// Apart, for a tree that is filled in order has room for as much again.
    object: Box<T>,
    /// The list, or what followed it, that last named the object.
    list: u32,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), list: 0, complete: false }
    }
}

impl<T: PartialEq> Store<T> {
    /// Whether all objects are known.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.objects.get(name).map(|kept| &*kept.object)
    }

    /// All of them, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &T)> {
        self.objects.iter().map(|(name, kept)| (name, &*kept.object))
    }

    /// Keeps `object`. Returns what was kept of that name before; `Err` if it was the very same.
    pub(super) fn insert(&mut self, name: Name, object: T) -> Result<Option<T>, Unchanged> {
        let kept = Kept { object: Box::new(object), list: self.list };
        match self.objects.get_mut(&name) {
            Some(old) if old.object == kept.object => {
                old.list = self.list;
                Err(Unchanged)
            }
            Some(old) => Ok(Some(*std::mem::replace(old, kept).object)),
            None => {
                self.objects.insert(name, kept);
                Ok(None)
            }
        }
    }

    /// Forgets an object, and returns it.
    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        self.objects.remove(name).map(|kept| *kept.object)
    }

    /// A list begins.
    pub(super) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// The list is complete. Returns the names of what it did not name.
    pub(super) fn end(&mut self) -> Vec<Name> {
        self.complete = true;
        let gone = self.objects.iter().filter(|(_, kept)| kept.list != self.list);
        gone.map(|(name, _)| name.clone()).collect()
    }
}

/// What was to be kept is kept already.
#[derive(Debug)]
pub(super) struct Unchanged;
