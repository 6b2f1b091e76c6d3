//! Names that many objects say: of nodes, zones and ports. Each is kept once.

use std::collections::HashSet;

use super::Name;

/// How many names there may be before it is worth looking for those that nobody says any more.
const MANY: usize = 1_024;

/// The names.
#[derive(Debug)]
pub(crate) struct Names {
    all: HashSet<Name>,
    /// How many there may be before the next clearance.
    limit: usize,
}

impl Default for Names {
    fn default() -> Self {
        Self { all: HashSet::new(), limit: MANY }
    }
}

impl Names {
    /// The one that is spelled like `text`.
    pub(crate) fn get(&mut self, text: &str) -> Name {
        if let Some(name) = self.all.get(text) {
            return name.clone();
        }
        if self.all.len() >= self.limit {
            self.all.retain(|name| Name::strong_count(name) > 1);
            self.limit = MANY.max(2 * self.all.len());
        }
        let name = Name::from(text);
        self.all.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_once_and_as_long_as_somebody_says_it() {
        let mut names = Names::default();
        let node = names.get("node1");
        assert!(Name::ptr_eq(&node, &names.get("node1")));
        for n in 0..10 * MANY {
            names.get(&n.to_string());
        }
        assert!(names.all.len() <= MANY, "{} names", names.all.len());
        assert!(Name::ptr_eq(&node, &names.get("node1")));
    }
}
