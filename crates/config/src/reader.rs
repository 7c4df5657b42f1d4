//! Reads a TOML file so that all its problems are reported at once, each with its line.

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A problem in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, if it is an included one.
    pub file: Option<PathBuf>,
    /// The line, starting at 1; 0 if unknown.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        match self.line {
            0 => f.write_str(&self.text),
            line => write!(f, "line {line}: {}", self.text),
        }
    }
}

/// What is collected while a file is read.
#[derive(Debug, Default)]
struct Notes {
    problems: Vec<Problem>,
    /// Every key that was requested, as `section.key`.
    keys: Vec<String>,
    /// Where relative paths start.
    folder: PathBuf,
}

/// A table of the file. Each key is requested once; any key that was not requested is a problem.
#[derive(Debug)]
pub struct Section<'a> {
    name: String,
    line: usize,
    table: DeTable<'a>,
    source: &'a str,
    notes: Rc<RefCell<Notes>>,
}

/// The result of reading a file.
#[derive(Debug)]
pub struct Outcome<T> {
    /// The value, with defaults in place of errors.
    pub value: T,
    /// All problems, in the order of their lines.
    pub problems: Vec<Problem>,
    /// Every key that was requested, as `section.key`.
    pub keys: Vec<String>,
}

/// Reads a text with `read`, which requests the keys it knows. Relative paths start at the working directory.
pub fn read<T>(source: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Outcome<T> {
    read_in(Path::new(""), source, read)
}

/// Reads a file in this directory, at which relative paths start.
pub fn read_in<T>(folder: &Path, source: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Outcome<T> {
    let notes = Notes { folder: folder.to_owned(), ..Notes::default() };
    let notes = Rc::new(RefCell::new(notes));
    let mut unreadable = None;
    let table = match DeTable::parse(source) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(source, span.start));
            unreadable = Some(Problem { file: None, line, text: error.message().to_owned() });
            DeTable::new()
        }
    };
    let mut root = Section { name: String::new(), line: 0, table, source, notes: Rc::clone(&notes) };
    let value = read(&mut root);
    root.finish();
    let mut notes = notes.take();
    // If the file is not TOML, nothing else can be said: what seems missing may well be in it.
    if let Some(problem) = unreadable {
        notes.problems = vec![problem];
    }
    notes.problems.sort_by_key(|problem| (problem.file.is_some(), problem.line));
    Outcome { value, problems: notes.problems, keys: notes.keys }
}

fn line_of(source: &str, offset: usize) -> usize {
    source.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

impl<'a> Section<'a> {
    /// Takes a key out of the table.
    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        let full = self.full(key);
        self.notes.borrow_mut().keys.push(full);
        let (_, value) = self.table.remove_entry(key)?;
        Some(value)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn line(&self, value: &Spanned<DeValue<'_>>) -> usize {
        line_of(self.source, value.span().start)
    }

    /// Returns the line on which this table starts, counted from 1; 0 for one that is not in the file.
    pub fn start_line(&self) -> usize {
        self.line
    }

    /// Returns the name of this table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reports a problem with a key, or with the section.
    pub fn problem(&self, line: usize, text: impl Into<String>) {
        self.notes.borrow_mut().problems.push(Problem { file: None, line, text: text.into() });
    }

    /// Reports the problems of an included file.
    pub fn adopt(&self, file: &Path, problems: Vec<Problem>) {
        let named = problems.into_iter().map(|problem| Problem { file: Some(file.to_owned()), ..problem });
        self.notes.borrow_mut().problems.extend(named);
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) {
        self.problem(
            self.line(value),
            format!("{}: {wanted}, not {}", self.full(key), described(value.get_ref())),
        );
    }

    /// Reads a value from a string with `parse`, which says what is wrong.
    pub fn parsed<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.take(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(key, &value, "expected a string");
            return None;
        };
        match parse(text) {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.problem(self.line(&value), format!("{}: {error}", self.full(key)));
                None
            }
        }
    }

    /// Reads a string.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        self.parsed(key, |text| Ok(text.to_owned()))
    }

    /// Reads a path. A relative one starts at the directory of the file.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let folder = self.notes.borrow().folder.clone();
        self.parsed(key, |text| {
            if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(folder.join(text)) }
        })
    }

    /// Reads one of a few words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, default: T, words: &[(&str, T)]) -> T {
        let parsed = self.parsed(key, |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
                let words: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
                format!("invalid value {text:?}: use {}", words.join(", "))
            })
        });
        parsed.unwrap_or(default)
    }

    /// Reads a boolean.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.take(key) else { return default };
        match value.get_ref().as_bool() {
            Some(flag) => flag,
            None => {
                self.wrong(key, &value, "expected true or false");
                default
            }
        }
    }

    /// Reads a whole number within a range.
    pub fn number(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.take(key) else { return default };
        let number = match value.get_ref() {
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => number,
            _ => {
                let wanted = format!("expected a whole number from {} to {}", range.start(), range.end());
                self.wrong(key, &value, &wanted);
                default
            }
        }
    }

    /// Reads a number of seconds within a range.
    pub fn seconds(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(key, default, range))
    }

    /// Reads a list of values from strings.
    pub fn list<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        self.items(key, &value, parse)
    }

    /// Reads values from one string or a list of strings.
    pub fn one_or_more<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.take(key) else { return Vec::new() };
        match value.get_ref().as_str().map(&parse) {
            Some(Ok(only)) => vec![only],
            Some(Err(error)) => {
                self.problem(self.line(&value), format!("{}: {error}", self.full(key)));
                Vec::new()
            }
            None => self.items(key, &value, parse),
        }
    }

    fn items<T>(
        &self,
        key: &str,
        value: &Spanned<DeValue<'a>>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, "expected a list of strings");
            return Vec::new();
        };
        let mut list = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str().map(&parse) {
                Some(Ok(parsed)) => list.push(parsed),
                Some(Err(error)) => self.problem(self.line(item), format!("{}: {error}", self.full(key))),
                None => self.wrong(key, item, "expected a list of strings"),
            }
        }
        list
    }

    /// Reads a table, empty if the file has none. Reports keys that `read` did not request.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let name = self.full(key);
        let mut section = match self.table.remove_entry(key) {
            None => self.child(name, DeTable::new(), 0),
            Some((_, value)) => {
                let line = self.line(&value);
                match value.into_inner() {
                    DeValue::Table(table) => self.child(name, table, line),
                    other => {
                        self.problem(
                            line,
                            format!("{name}: expected a table [{name}], not {}", described(&other)),
                        );
                        self.child(name, DeTable::new(), line)
                    }
                }
            }
        };
        let value = read(&mut section);
        section.finish();
        value
    }

    /// Reads a list of tables. A single one may be written without the list.
    pub fn sections<T>(&mut self, key: &'static str, mut read: impl FnMut(&mut Section<'_>) -> T) -> Vec<T> {
        let name = self.full(key);
        let Some((_, value)) = self.table.remove_entry(key) else { return Vec::new() };
        let line = self.line(&value);
        let items = match value.into_inner() {
            DeValue::Array(items) => items,
            DeValue::Table(table) => {
                let mut section = self.child(name, table, line);
                let only = read(&mut section);
                section.finish();
                return vec![only];
            }
            _ => {
                self.problem(line, format!("{name}: expected tables [[{name}]]"));
                return Vec::new();
            }
        };
        let mut list = Vec::new();
        for item in items {
            let line = self.line(&item);
            if let DeValue::Table(table) = item.into_inner() {
                let mut section = self.child(name.clone(), table, line);
                list.push(read(&mut section));
                section.finish();
            } else {
                self.problem(line, format!("{name}: expected tables [[{name}]]"));
            }
        }
        list
    }

    fn child(&self, name: String, table: DeTable<'a>, line: usize) -> Section<'a> {
        Section { name, line, table, source: self.source, notes: Rc::clone(&self.notes) }
    }

    /// Reports keys that were not requested.
    fn finish(&mut self) {
        let prefix = self.full("");
        let known: Vec<String> = {
            let notes = self.notes.borrow();
            notes.keys.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect()
        };
        for (key, value) in std::mem::take(&mut self.table) {
            let line = line_of(self.source, key.span().start);
            let _ = value;
            let key = key.into_inner().into_owned();
            let near = known.iter().find(|known| is_near(known, &key));
            let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
            self.problem(line, format!("unknown setting {}{hint}", self.full(&key)));
        }
    }
}

/// Returns whether two keys differ by about two characters at most.
fn is_near(known: &str, key: &str) -> bool {
    let common = known.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
    let rest = |text: &str| text.len() - common;
    let tail = known.bytes().rev().zip(key.bytes().rev()).take_while(|(a, b)| a == b).count();
    let tail = tail.min(rest(known)).min(rest(key));
    rest(known).max(rest(key)) - tail <= 2
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str) -> (u64, Vec<String>) {
        let outcome = read(source, |root| {
            let number = root.number("number", 5, 1..=10);
            root.section("part", |part| part.flag("flag", true));
            root.sections("item", |item| item.string("name"));
            number
        });
        (outcome.value, outcome.problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn everything_wrong_is_said_at_once_with_its_line() {
        let (number, problems) =
            check("number = 11\nnumbr = 1\n[part]\nflag = \"yes\"\n[[item]]\nname = 1\nother = 2\n[rest]\n");
        assert_eq!(number, 5);
        assert_eq!(
            problems,
            [
                "line 1: number: expected a whole number from 1 to 10, not 11",
                "line 2: unknown setting numbr; did you mean number?",
                "line 4: part.flag: expected true or false, not \"yes\"",
                "line 6: item.name: expected a string, not 1",
                "line 7: unknown setting item.other",
                "line 8: unknown setting rest",
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_toml_names_the_line() {
        let (_, problems) = check("number = 1\nnumber = \n");
        assert!(problems[0].starts_with("line 2: "), "{problems:?}");
        // Nor is anything said to be missing that nobody could look for.
        let unreadable = read("number = 1\n\"\n", |root| root.problem(0, "something is missing"));
        assert_eq!(unreadable.problems.len(), 1, "{:?}", unreadable.problems);
        assert_eq!(unreadable.problems[0].line, 2);
    }

    #[test]
    fn what_is_right_has_no_problems() {
        assert_eq!(check("number = 7\n[part]\nflag = false\n[[item]]\nname = \"a\"\n"), (7, vec![]));
        assert_eq!(check(""), (5, vec![]));
    }
}
