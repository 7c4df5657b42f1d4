//! What a package has beside the programs: man pages, completions for shells, and the page of the
//! configuration. `make deb` runs it; the daemon carries none of it.
//!
//!     cargo run --example packaging -- FOLDER
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

mod manual;
#[allow(dead_code)]
#[path = "../../src/main.rs"]
mod program;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("which folder is to be written?")?);
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    let command = program::Arguments::command();
    clap_mangen::generate_to(command.clone().disable_help_subcommand(true), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "pixelward", &completions)?;
    }
    let settings = std::fs::read_to_string(project.join("config.reference.toml"))?;
    std::fs::write(man.join("pixelward.toml.5"), manual::settings(&manual::RELAY, &settings))?;
    // The console is a program of its own, whose settings stand in a file of their own.
    if let Ok(settings) = std::fs::read_to_string(project.join("console.toml")) {
        let folder_of_console = folder.join("console");
        std::fs::create_dir_all(&folder_of_console)?;
        std::fs::write(
            folder_of_console.join("pixelward-console.toml.5"),
            manual::settings(&manual::CONSOLE, &settings),
        )?;
        std::fs::write(folder_of_console.join("pixelward-console.1"), manual::console())?;
    }
    Ok(())
}
