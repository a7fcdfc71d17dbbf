//! The command line: what the program was asked to do, and the directives among the arguments.
//!
//! It must not start the server: [`run`] hands the configuration to the function that does. Besides that it
//! prints, to the streams that Valkey prints to, and exits with the statuses that Valkey exits with.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::config::{Config, LineCheck, LoadError, Source, quote, split};
use super::health;

/// The version of Valkey whose behaviour this server has; clients and tools decide by it.
pub const VALKEY_VERSION: &str = "9.1.2";

const USAGE: &str = "\
Usage: ./understudy [/path/to/valkey.conf] [options] [-]
       ./understudy - (read config from stdin)
       ./understudy -v or --version
       ./understudy -h or --help
       ./understudy --health-check [/path/to/valkey.conf] [options]

Examples:
       ./understudy (run the server with default conf)
       echo 'maxmemory 128mb' | ./understudy -
       ./understudy /etc/valkey/6379.conf
       ./understudy --port 7777
       ./understudy --port 7777 --replicaof 127.0.0.1 8888
       ./understudy /etc/myvalkey.conf --loglevel verbose -
       ./understudy /etc/myvalkey.conf --loglevel verbose
";

/// The line of `--version`; the first version is the one that tools look for.
pub fn version() -> String {
    format!(
        "Understudy server v={VALKEY_VERSION} sha=00000000:0 malloc=jemalloc bits={} build={}",
        usize::BITS,
        env!("CARGO_PKG_VERSION")
    )
}

/// What the program was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Task {
    Serve(Arguments),
    HealthCheck(Arguments),
    ShowVersion,
    ShowHelp,
    /// Asked for something that this server does not offer.
    Refuse(&'static str),
}

/// Where the configuration comes from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The absolute path of the configuration file: it stays right when the directory changes.
    pub file: Option<PathBuf>,
    pub reads_stdin: bool,
    /// The options as lines of a configuration file.
    pub options: Vec<u8>,
}

/// Does what `arguments` (without the program's name) ask for; `serve` runs the server.
pub fn run(
    arguments: &[OsString],
    check: &mut dyn LineCheck,
    serve: impl FnOnce(Config, Arguments) -> ExitCode,
) -> ExitCode {
    match Task::parse(arguments) {
        Task::ShowVersion => print(&version()),
        Task::ShowHelp => print(USAGE.trim_end()),
        Task::Refuse(reason) => complain(reason),
        Task::HealthCheck(arguments) => match arguments.load(check) {
            Ok(config) if health::check(&config) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => report(&error),
        },
        Task::Serve(arguments) => match arguments.load(check) {
            Ok(config) => serve(config, arguments),
            Err(error) => report(&error),
        },
    }
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(text: &str) -> ExitCode {
    // Where even this fails there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn report(error: &LoadError) -> ExitCode {
    match error {
        LoadError::Open { .. } => {
            tracing::warn!("{error}");
            ExitCode::FAILURE
        }
        _ => complain(error.to_string().trim_end_matches('\n')),
    }
}

impl Task {
    /// What `arguments` (without the program's name) ask for.
    pub fn parse(arguments: &[OsString]) -> Self {
        let arguments: Vec<&[u8]> = arguments.iter().map(|argument| argument.as_bytes()).collect();
        match arguments.as_slice() {
            [b"-v" | b"--version", ..] => Task::ShowVersion,
            [b"-h" | b"--help", ..] => Task::ShowHelp,
            [b"--check-system", ..] => Task::Refuse(
                "--check-system is not offered: this server never forks, so the settings that it would check do not matter.",
            ),
            [b"--test-memory", ..] => {
                Task::Refuse("--test-memory is not offered: use a memory tester made for it.")
            }
            [b"--health-check", rest @ ..] => Task::HealthCheck(Arguments::parse(rest)),
            all => Task::Serve(Arguments::parse(all)),
        }
    }
}

impl Arguments {
    /// A first argument without a dash is the file. Every `--name` begins a line, unless the name before it
    /// still lacks its value; all else is quoted and added to the line.
    fn parse(arguments: &[&[u8]]) -> Self {
        let mut parsed = Arguments::default();
        let mut rest = arguments;
        if let [path, tail @ ..] = rest
            && !path.starts_with(b"-")
        {
            parsed.file = Some(absolute(Path::new(std::ffi::OsStr::from_bytes(path))));
            rest = tail;
        }
        let is_first = rest.len() == arguments.len();
        let mut has_value = true;
        for (index, argument) in rest.iter().enumerate() {
            let next = rest.get(index + 1);
            let is_at_an_end = next.is_none() || (is_first && index == 0);
            match argument.strip_prefix(b"--") {
                _ if *argument == b"-" && is_at_an_end => parsed.reads_stdin = true,
                Some(option) if has_value => has_value = parsed.begin_line(option, next.copied()),
                _ => {
                    parsed.options.extend(quote(argument));
                    parsed.options.push(b' ');
                    has_value = true;
                }
            }
        }
        parsed
    }

    /// Begins the line of an option that may carry its value in the same argument. False if a value has to
    /// follow.
    fn begin_line(&mut self, option: &[u8], next: Option<&[u8]>) -> bool {
        if !self.options.is_empty() {
            self.options.push(b'\n');
        }
        self.options.extend_from_slice(option);
        self.options.push(b' ');
        let carries_value = !matches!(split(option).as_deref(), Ok([_]));
        if carries_value {
            return true;
        }
        // A lone `--save` saves nothing; it is what a script makes of an empty list.
        let is_followed_by_option = next.is_some_and(|next| next.starts_with(b"--"));
        if option.eq_ignore_ascii_case(b"save") && (next.is_none() || is_followed_by_option) {
            self.options.extend_from_slice(b"\"\"");
            return true;
        }
        false
    }

    /// Reads the configuration; the standard input too if asked for.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, check: &mut dyn LineCheck) -> Result<Config, LoadError> {
        let mut stdin = Vec::new();
        if self.reads_stdin {
            tracing::info!("Reading config from stdin");
            std::io::stdin()
                .read_to_end(&mut stdin)
                .map_err(|error| LoadError::Open { path: "-".into(), reason: error.to_string() })?;
        }
        let mut config = Config::default();
        let source = Source {
            file: self.file.as_deref(),
            stdin: self.reads_stdin.then_some(&stdin),
            options: &self.options,
        };
        config.load(&source, check)?;
        Ok(config)
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
