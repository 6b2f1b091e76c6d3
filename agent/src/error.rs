//! How errors are told to people: each cause once.

use anyhow::Error;

/// The error with its causes, in one line. Many errors already tell their cause in their own words; those causes
/// are left out.
pub(crate) fn told(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open it: {0}")]
    struct Telling(#[source] io::Error);

    #[test]
    fn a_cause_is_told_once() {
        let telling: Error = Telling(io::Error::other("no such device")).into();
        assert_eq!(told(&telling), "cannot open it: no such device");
        let silent = Err::<(), _>(io::Error::other("no such device")).context("cannot open it").unwrap_err();
        assert_eq!(told(&silent), "cannot open it: no such device");
    }
}
