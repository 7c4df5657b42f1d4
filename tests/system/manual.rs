//! What a package has beside the program says everything: a page for each command, each flag and each
//! setting.

#[path = "../../examples/packaging/manual.rs"]
#[allow(dead_code, reason = "the example has more pages")]
mod pages;
#[path = "../../src/main.rs"]
#[allow(dead_code, reason = "the program as a whole, of which its commands are wanted")]
mod program;

use crate::support::Folder;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

const SETTINGS: &str = include_str!("../../config.reference.toml");

/// All commands below one, each with the words that lead to it.
fn commands(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    found.push((words.to_owned(), command.clone()));
    for command in
        command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        commands(command, &format!("{words}-{}", command.get_name()), found);
    }
}

fn all() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    commands(&program::Arguments::command(), "pixelward", &mut found);
    found
}

#[test]
fn every_command_has_a_page_with_each_of_its_flags() {
    let folder = Folder::new();
    let command = program::Arguments::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &folder.0).unwrap();
    let all = all();
    assert!(all.len() > 30, "{}", all.len());
    for (name, command) in all {
        let path = folder.0.join(format!("{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        let page = page.replace("\\-", "-");
        assert!(page.contains(".SH NAME") && page.contains(".SH DESCRIPTION"), "{name}");
        let told = command.get_arguments().filter(|argument| !argument.is_hide_set());
        for flag in told.filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("--{flag}")), "{name} does not tell of --{flag}");
        }
    }
}

#[test]
fn every_command_and_argument_is_explained() {
    for (name, command) in all() {
        assert!(command.get_about().is_some(), "{name} says nothing of itself");
        for argument in command
            .get_arguments()
            .filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        {
            assert!(argument.get_help().is_some(), "{name} does not explain {}", argument.get_id());
        }
    }
}

#[test]
fn the_page_of_the_configuration_has_every_setting_with_its_default_and_what_is_said_of_it() {
    let page = pages::settings(&pages::RELAY, SETTINGS).replace("\\-", "-").replace("\\e", "\\");
    let lines: Vec<&str> = page.lines().map(|line| line.trim_start_matches("\\&")).collect();
    let mut settings = 0;
    for line in SETTINGS.lines().filter(|line| !line.is_empty()) {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let wanted = match line.strip_prefix("# ") {
            Some(said) => said.to_owned(),
            None if bare.starts_with('[') => format!(".SH {bare}"),
            None => {
                settings += 1;
                format!("\\fB{bare}\\fR")
            }
        };
        assert!(lines.contains(&wanted.as_str()), "{wanted} is not in pixelward.toml(5)");
    }
    assert!(settings > 150, "{settings}");
}

#[test]
fn the_pages_are_right_for_man() {
    let folder = Folder::new();
    let page = folder.file("pixelward.toml.5", &pages::settings(&pages::RELAY, SETTINGS));
    let shown = std::process::Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(&page)
        .output()
        .expect("groff of the Debian package groff-base");
    assert!(shown.status.success());
    assert_eq!(String::from_utf8_lossy(&shown.stderr), "");
}

#[test]
fn completions_know_every_command() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut program::Arguments::command(), "pixelward", &mut text);
        let text = String::from_utf8(text).unwrap();
        for name in program::Arguments::command().get_subcommands().map(Command::get_name) {
            assert!(text.contains(name), "{shell} does not know {name}");
        }
    }
}
