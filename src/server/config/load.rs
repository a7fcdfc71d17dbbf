//! Reads configuration files and the directives from the command line into a [`Config`].
//!
//! It does not know commands or ACL rules: a [`LineCheck`] judges `rename-command` and `user` lines.
//!
//! Invariants: lines take effect in their order and the last one wins; a file that includes itself ends in
//! an error; no input makes it panic.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::base::glob::{self, Case};

use super::directive::{Flags, Origin};
use super::find;
use super::special::system_reason;
use super::table::Config;
use super::tokens::split;
use super::values::{RenamedCommand, Text, UserLine};

/// How deep files may include files.
const MAX_INCLUDE_DEPTH: usize = 32;

/// Directives of older versions that mean nothing any more and take one argument.
const OBSOLETE: &[&[u8]] = &[
    b"list-max-ziplist-entries",
    b"list-max-ziplist-value",
    b"lua-replicate-commands",
    b"io-threads-do-reads",
];

/// What to read, in this order.
#[derive(Debug, Default)]
pub struct Source<'a> {
    pub file: Option<&'a Path>,
    /// What came over the standard input.
    pub stdin: Option<&'a [u8]>,
    /// Lines made from the command line.
    pub options: &'a [u8],
}

/// Judges the lines that other parts of the server understand. An error is the reason, as in
/// `No such command in rename-command`.
pub trait LineCheck {
    fn rename_command(&mut self, name: &[u8], new_name: &[u8]) -> Result<(), String>;
    fn user(&mut self, name: &[u8], rules: &[Text]) -> Result<(), String>;
}

/// Lets every line pass.
pub struct Accept;

impl LineCheck for Accept {
    fn rename_command(&mut self, _name: &[u8], _new_name: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn user(&mut self, _name: &[u8], _rules: &[Text]) -> Result<(), String> {
        Ok(())
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadError {
    /// A line is wrong. Counted from 1 within its file.
    Line { number: usize, line: Text, reason: String },
    /// The lines are right, but not together.
    Whole { reason: String },
    /// A file cannot be read.
    Open { path: PathBuf, reason: String },
}

impl fmt::Display for LoadError {
    /// What the server prints before it exits: for [`LoadError::Open`] a message for the log, otherwise the
    /// block that goes to the standard error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = crate::server::command_line::VALKEY_VERSION;
        let block = format!("\n*** FATAL CONFIG FILE ERROR (Version {version}) ***\n");
        match self {
            LoadError::Line { number, line, reason } => {
                let line = line.to_str();
                write!(f, "{block}Reading the configuration file, at line {number}\n>>> '{line}'\n{reason}\n")
            }
            LoadError::Whole { reason } => write!(f, "{block}{reason}\n"),
            LoadError::Open { path, reason } => {
                write!(f, "Fatal error, can't open config file '{}': {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl Config {
    /// Reads everything in `source` over the values that are there. After an error the configuration is
    /// half read and of no use.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&mut self, source: &Source<'_>, check: &mut dyn LineCheck) -> Result<(), LoadError> {
        let mut text = match source.file {
            Some(path) => read(path)?,
            None => Vec::new(),
        };
        text.extend_from_slice(source.stdin.unwrap_or_default());
        if !source.options.is_empty() {
            text.push(b'\n');
            text.extend_from_slice(source.options);
        }
        let mut loader = Loader { config: self, check, seen_save: false, depth: 0 };
        loader.lines(&text)?;
        self.check_whole()
    }

    fn check_whole(&mut self) -> Result<(), LoadError> {
        let whole = |reason: String| LoadError::Whole { reason };
        if !self.logfile.is_empty() {
            let path = self.dir.0.join(self.logfile.as_path());
            std::fs::OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(|error| whole(format!("Can't open the log file: {}", system_reason(&error))))?;
        }
        self.clamp_hz();
        Ok(())
    }

    /// Values out of range are hints, not errors.
    pub(super) fn clamp_hz(&mut self) {
        self.hz = self.hz.clamp(1, 500);
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| open_error(path, &error))
}

fn open_error(path: &Path, error: &io::Error) -> LoadError {
    LoadError::Open { path: path.to_owned(), reason: system_reason(error) }
}

/// What went wrong with a line: the line itself, or something in a file that it includes.
enum Fault {
    Here(String),
    Included(LoadError),
}

impl<T: Into<String>> From<T> for Fault {
    fn from(reason: T) -> Self {
        Fault::Here(reason.into())
    }
}

struct Loader<'a> {
    config: &'a mut Config,
    check: &'a mut dyn LineCheck,
    seen_save: bool,
    depth: usize,
}

impl Loader<'_> {
    fn lines(&mut self, text: &[u8]) -> Result<(), LoadError> {
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            self.line(line).map_err(|fault| match fault {
                Fault::Here(reason) => LoadError::Line { number: index + 1, line: Text::from(line), reason },
                Fault::Included(error) => error,
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let words = split(line).map_err(|_| "Unbalanced quotes in configuration line")?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let [name, arguments @ ..] = words.as_slice() else { return Ok(()) };
        let name = name.to_ascii_lowercase();
        if find(&name).is_some() {
            return Ok(self.directive(&name, arguments)?);
        }
        match (name.as_slice(), arguments) {
            (name, [_]) if OBSOLETE.contains(&name) => Ok(()),
            (b"include", [path]) => self.include(path),
            (b"rename-command", [name, new_name]) => Ok(self.rename_command(name, new_name)?),
            (b"user", [name, rules @ ..]) => Ok(self.user(name, rules)?),
            (b"loadmodule", [_, ..]) => Err("modules are not supported".into()),
            (b"sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
            (name, []) if name.contains(&b'.') => Err("Module config specified without value".into()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn directive(&mut self, name: &[u8], arguments: &[&[u8]]) -> Result<(), String> {
        let Some(directive) = find(name) else { return Ok(()) };
        let is_multi = directive.flags.contains(Flags::MULTI);
        let origin = match directive.name {
            "save" if std::mem::replace(&mut self.seen_save, true) => Origin::FurtherLine,
            _ => Origin::FirstLine,
        };
        let changed = match arguments {
            // One word may hold all arguments, but an empty one is an argument.
            [word] if is_multi && !word.is_empty() => {
                let words = split(word).map_err(|_| "Unbalanced quotes in configuration line")?;
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                directive.set(self.config, &words, origin)
            }
            [_] => directive.set(self.config, arguments, origin),
            _ if is_multi => directive.set(self.config, arguments, origin),
            _ => Err("wrong number of arguments".into()),
        };
        changed.map(|_| ())
    }

    fn rename_command(&mut self, name: &[u8], new_name: &[u8]) -> Result<(), String> {
        self.check.rename_command(name, new_name)?;
        self.config
            .renamed_commands
            .push(RenamedCommand { name: Text::from(name), new_name: Text::from(new_name) });
        Ok(())
    }

    fn user(&mut self, name: &[u8], rules: &[&[u8]]) -> Result<(), String> {
        let in_declaration = |reason: String| {
            format!("Error in user declaration '{}': {reason}", String::from_utf8_lossy(name))
        };
        if self.config.users.iter().any(|user| user.name.as_bytes() == name) {
            return Err(in_declaration(
                "Duplicate user found. A user can only be defined once in config files".into(),
            ));
        }
        let rules: Vec<Text> = rules.iter().map(|rule| Text::from(*rule)).collect();
        self.check.user(name, &rules)?;
        self.config.users.push(UserLine { name: Text::from(name), rules });
        Ok(())
    }

    /// A pattern may match no file; a name without one must be there.
    fn include(&mut self, path: &[u8]) -> Result<(), Fault> {
        if self.depth >= MAX_INCLUDE_DEPTH {
            return Err("too many nested includes".into());
        }
        let path = self.config.dir.0.join(Path::new(std::ffi::OsStr::from_bytes(path)));
        let mut text = Vec::new();
        for path in files_matching(&path) {
            text.extend(read(&path).map_err(Fault::Included)?);
        }
        self.depth += 1;
        let result = self.lines(&text).map_err(Fault::Included);
        self.depth -= 1;
        result
    }
}

fn has_pattern(name: &[u8]) -> bool {
    name.iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The path itself, or the sorted paths that match where it has patterns in it. As in a shell, a pattern
/// does not match a leading dot.
fn files_matching(path: &Path) -> Vec<PathBuf> {
    if !has_pattern(path.as_os_str().as_bytes()) {
        return vec![path.to_owned()];
    }
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let pattern = component.as_os_str().as_bytes();
        let last = std::mem::take(&mut found);
        for parent in last {
            if !has_pattern(pattern) {
                found.push(parent.join(component));
                continue;
            }
            let entries = std::fs::read_dir(&parent).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries
                .map(|entry| entry.file_name())
                .filter(|name| pattern.starts_with(b".") || !name.as_bytes().starts_with(b"."))
                .filter(|name| glob::matches(pattern, name.as_bytes(), Case::Sensitive))
                .collect();
            names.sort();
            found.extend(names.iter().map(|name| parent.join(name)));
        }
    }
    found.retain(|path| path.exists());
    found
}
