//! The page of a configuration file, made from the comments of the file that is shipped: there is one
//! description of a setting, not two.

/// What a page is called, and what it says before the settings.
pub(crate) struct Page {
    name: &'static str,
    summary: &'static str,
    files: &'static [(&'static str, &'static str)],
    also: &'static str,
}

/// The page of the relay's configuration.
pub(crate) const RELAY: Page = Page {
    name: "pixelward.toml",
    summary: "configuration of the pixelward relay",
    files: &[
        (
            "/etc/pixelward/config.toml",
            "The configuration that pixelward.service reads. `pixelward init` writes it.",
        ),
        (
            "/var/lib/pixelward",
            "The consent store, the audit records, the delivery ledger and development certificates.",
        ),
        ("/usr/share/doc/pixelward/config.reference.toml", "This page as a file to copy settings from."),
    ],
    also: "pixelward(1), pixelward\\-init(1), pixelward\\-check(1), systemd.exec(5)",
};

/// The page of the console's configuration.
pub(crate) const CONSOLE: Page = Page {
    name: "pixelward-console.toml",
    summary: "configuration of the console of pixelward",
    files: &[("/etc/pixelward/console.toml", "The configuration that pixelward-console.service reads.")],
    also: "pixelward\\-console(1), pixelward(1)",
};

/// The page of the console, whose command line is short.
pub(crate) fn console() -> String {
    let mut page = head("pixelward-console", '1', "pages that show what the relay did, and prove it");
    page.push_str(
        ".SH SYNOPSIS\n\\fBpixelward\\-console\\fR [\\fB\\-\\-config\\fR \\fIFILE\\fR]\n.SH DESCRIPTION\n\
         A client of the relay's API that serves pages, behind single sign\\-on by SAML 2.0 or, on this \
         machine alone, one\\-time links that \
         `pixelward console\\-link` makes.\n.SH \
         OPTIONS\n.TP\n\\fB\\-c\\fR, \\fB\\-\\-config\\fR \\fIFILE\\fR\n\
         The configuration: pixelward\\-console.toml(5). Default: \
         console.toml.\n.TP\n\\fB\\-\\-help\\fR, \\fB\\-\\-version\\fR\nAs \
         elsewhere.\n.TP\n\\fB\\-\\-check\\fR\nCheck the configuration and end.\n\
         .SH SEE ALSO\npixelward\\-console.toml(5), pixelward(1)\n",
    );
    page
}

fn head(name: &str, section: char, summary: &str) -> String {
    format!(
        ".TH {} {section} \"\" \"pixelward {}\"\n.SH NAME\n{} \\- {}\n",
        escaped(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION"),
        escaped(name),
        escaped(summary)
    )
}

/// The page of a file of settings with comments in front of them.
pub(crate) fn settings(page: &Page, source: &str) -> String {
    let mut text = format!("{}.SH DESCRIPTION\n", head(page.name, '5', page.summary));
    let mut is_top = true;
    for block in blocks(source) {
        match block {
            Block::Text(lines) => text.push_str(&format!(".PP\n{}\n", flowing(&lines))),
            Block::Section(name, lines) => {
                is_top = false;
                text.push_str(&format!(".SH {}\n", escaped(name)));
                if !lines.is_empty() {
                    text.push_str(&format!("{}\n", flowing(&lines)));
                }
            }
            Block::Settings(settings, lines) => {
                if std::mem::take(&mut is_top) {
                    text.push_str(".SH AT THE TOP OF THE FILE\n");
                }
                for (index, setting) in settings.iter().enumerate() {
                    text.push_str(&format!(
                        "{}\n\\fB{}\\fR\n",
                        if index == 0 { ".TP" } else { ".TQ" },
                        escaped(setting)
                    ));
                }
                text.push_str(&format!("{}\n", flowing(&lines)));
            }
        }
    }
    text.push_str(".SH FILES\n");
    for (path, what) in page.files {
        text.push_str(&format!(".TP\n\\fI{}\\fR\n{}\n", escaped(path), escaped(what)));
    }
    text.push_str(&format!(".SH SEE ALSO\n{}\n", page.also));
    text
}

/// A piece of the file.
enum Block<'a> {
    /// What is said of nothing in particular.
    Text(Vec<&'a str>),
    /// The name of a section, and what is said of it.
    Section(&'a str, Vec<&'a str>),
    /// Settings that stand together, and what is said of them.
    Settings(Vec<&'a str>, Vec<&'a str>),
}

/// What is commented out without a blank behind the mark counts like the rest.
fn blocks(source: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let (mut said, mut settings): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for line in source.lines().chain([""]) {
        let bare = line.strip_prefix('#').unwrap_or(line);
        let is_comment = line.starts_with("# ");
        if !settings.is_empty() && (is_comment || !is_setting(bare)) {
            blocks.push(Block::Settings(std::mem::take(&mut settings), std::mem::take(&mut said)));
        }
        if is_comment {
            said.extend(line.strip_prefix("# "));
        } else if is_setting(bare) {
            settings.push(bare);
        } else if bare.starts_with('[') {
            blocks.push(Block::Section(bare, std::mem::take(&mut said)));
        } else if !said.is_empty() {
            blocks.push(Block::Text(std::mem::take(&mut said)));
        }
    }
    blocks
}

fn is_setting(line: &str) -> bool {
    let is_name = |text: &str| {
        text.bytes().all(|text| text.is_ascii_lowercase() || text.is_ascii_digit() || text == b'_')
    };
    line.split_once(" = ").is_some_and(|(name, _)| !name.is_empty() && is_name(name))
}

fn flowing(lines: &[&str]) -> String {
    lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("\n")
}

/// As groff shows it: a minus that can be copied, and no line that looks like a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
