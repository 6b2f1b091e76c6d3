//! Service names as they are kept in a map: whole if they fit, else cut with a mark that keeps them apart.

use beeline_abi::ServiceName;

use crate::fnv;

const ROOM: usize = size_of::<ServiceName>();
/// `~` and eight hexadecimal digits.
const MARK: usize = 9;

/// Encodes `name`. Different names give different results (but for a 32-bit collision among cut ones).
pub(crate) fn encode(name: &str) -> ServiceName {
    let mut bytes = [0; ROOM];
    if name.len() <= ROOM {
        bytes[..name.len()].copy_from_slice(name.as_bytes());
    } else {
        let mut end = ROOM - MARK;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let cut = format!("{}~{:08x}", &name[..end], fnv::short(name.bytes()));
        bytes[..cut.len()].copy_from_slice(cut.as_bytes());
    }
    ServiceName(bytes)
}

/// Decodes what [`encode`] made.
pub(crate) fn decode(name: &ServiceName) -> String {
    let end = name.0.iter().position(|&byte| byte == 0).unwrap_or(ROOM);
    String::from_utf8_lossy(&name.0[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_come_back_whole() {
        for name in ["echo", "default/echo:http", &"x".repeat(64)] {
            assert_eq!(decode(&encode(name)), name);
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character_and_stay_apart() {
        let (a, b) = ("ä".repeat(50) + "1", "ä".repeat(50) + "2");
        assert_ne!(encode(&a), encode(&b));
        assert!(decode(&encode(&a)).starts_with(&"ä".repeat(27)));
    }
}
