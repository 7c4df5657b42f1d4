//! Arguments in, exit code out: the console.

use std::process::ExitCode;

use clap::Parser;
use pixelward::console::{Arguments, run};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pixelward-console: {error}");
            ExitCode::FAILURE
        }
    }
}
