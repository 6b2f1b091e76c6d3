//! What the programs that people ask have in common: a report is a table for people or JSON for programs, and reads the
//! same wherever it comes from. It knows nothing of what is reported.

mod output;
mod table;

pub use output::{Format, Report, count, print, span};
pub use table::Table;
