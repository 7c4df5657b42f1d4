//! The command line: one file per subcommand.

pub mod consent;
pub mod rewrite;
pub mod run;
