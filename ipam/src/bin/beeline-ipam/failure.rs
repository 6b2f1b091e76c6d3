//! What goes wrong, in the terms of CNI: a code for each kind of it.

use beeline_cni::{Code, Failure};
use beeline_ipam::Error;

/// All addresses are held.
pub(crate) const EXHAUSTED: Code = Code(100);
/// A privilege is missing.
pub(crate) const PRIVILEGE: Code = Code(102);
/// The attachment holds addresses already.
pub(crate) const EXISTS: Code = Code(104);
/// An address was asked for that is in no range.
pub(crate) const OUT_OF_RANGE: Code = Code(105);
/// An address was asked for that is a gateway's.
pub(crate) const GATEWAY: Code = Code(106);
/// An address was asked for that is excluded.
pub(crate) const EXCLUDED: Code = Code(107);
/// An address was asked for that another holds.
pub(crate) const TAKEN: Code = Code(108);
/// Two addresses were asked for that are of one range set.
pub(crate) const TWO_OF_ONE_SET: Code = Code(109);
/// CHECK found that something is not as it was given.
pub(crate) const MISMATCH: Code = Code(110);

/// What became of the store.
pub(crate) fn of_store(error: &Error) -> Failure {
    let code = match error {
        Error::Exhausted { .. } => EXHAUSTED,
        Error::Held { .. } => EXISTS,
        Error::OutOfRange { .. } => OUT_OF_RANGE,
        Error::IsGateway { .. } => GATEWAY,
        Error::IsExcluded { .. } => EXCLUDED,
        Error::Taken { .. } => TAKEN,
        Error::TwoOfOneSet { .. } => TWO_OF_ONE_SET,
        _ if error.is_forbidden() => PRIVILEGE,
        _ => Code::IO,
    };
    Failure::new(code, error.to_string())
}

/// What is wrong with the configuration's `ipam` section.
pub(crate) fn bad_config(why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::CONFIG, format!("the configuration's `ipam` section cannot be used: {why}"))
}
