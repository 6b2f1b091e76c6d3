//! What can be wrong with a file, told with place, field, cause and cure.

use std::{fmt, io, path::PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Line, from 1; 0 if it has no place.
    pub(crate) line: u64,
    /// Column, from 1.
    pub(crate) column: u64,
    /// Path of the field, such as `services[0].frontends[1].port`; empty for the file as a whole.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) cause: String,
    /// What to do about it.
    pub(crate) cure: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, field, cause, cure } = self;
        if *line > 0 {
            write!(f, "line {line}, column {column}: ")?;
        }
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        write!(f, "{cause}; {cure}")
    }
}

/// Why a file was not taken.
#[derive(Debug)]
pub(crate) enum BadFile {
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It makes no sense.
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong, in the order of the file; never empty.
        problems: Vec<Problem>,
    },
}

impl std::error::Error for BadFile {}

impl fmt::Display for BadFile {
    /// The alternate form (`{:#}`) tells every problem, one a line; the plain form only the first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(f, "{} is not there; write it, or name another with --config", path.display())
            }
            Self::Unreadable { path, source } => {
                write!(
                    f,
                    "cannot read {}: {source}; make it a UTF-8 text file that beelined may read",
                    path.display()
                )
            }
            Self::Wrong { path, problems } => {
                let told = if f.alternate() { problems.len() } else { 1 };
                for (i, problem) in problems.iter().take(told).enumerate() {
                    let newline = if i == 0 { "" } else { "\n" };
                    write!(f, "{newline}{} {problem}", path.display())?;
                }
                match problems.len() - told {
                    0 => Ok(()),
                    more => write!(f, " (and {more} more: run `beelined check`)"),
                }
            }
        }
    }
}
