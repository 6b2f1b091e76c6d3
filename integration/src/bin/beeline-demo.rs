//! `beeline-demo`: what `hack/demo` runs once everything is built.

use std::process::ExitCode;

use clap::Parser;
use integration::demo;

fn main() -> ExitCode {
    match demo::run(&demo::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
