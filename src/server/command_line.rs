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
use super::{health, log};

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
    // What is wrong with a file is a message of the log.
    log::install();
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
        let carries_value = !matches!(split(option).as_deref(), Some([_]));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::Accept;

    fn parse(arguments: &[&str]) -> Task {
        Task::parse(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn options(arguments: &[&str]) -> String {
        match parse(arguments) {
            Task::Serve(arguments) => String::from_utf8(arguments.options).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    fn load(arguments: &[&str]) -> Result<Config, LoadError> {
        match parse(arguments) {
            Task::Serve(arguments) => arguments.load(&mut Accept),
            other => panic!("{other:?}"),
        }
    }

    fn get(config: &Config, name: &str) -> String {
        let found = config.get(&[name.as_bytes()]);
        found.first().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).expect(name)
    }

    #[test]
    fn options_become_lines() {
        assert_eq!(options(&["--port", "7777"]), "port \"7777\" ");
        assert_eq!(options(&["--port", "1", "--replicaof", "h", "2"]), "port \"1\" \nreplicaof \"h\" \"2\" ");
        assert_eq!(options(&["x.conf", "loglevel", "verbose"]), "\"loglevel\" \"verbose\" ");
        assert_eq!(options(&["--maxmemory 700mb"]), "maxmemory 700mb ");
        assert_eq!(options(&["--proc-title-template", "--x--"]), "proc-title-template \"--x--\" ");
        assert_eq!(options(&["--save"]), "save \"\"");
        assert_eq!(options(&["--save", "--port", "1"]), "save \"\"\nport \"1\" ");
        assert_eq!(options(&["--save", ""]), "save \"\" ");
        assert_eq!(options(&["--save ", "--port", "1"]), "save  \"--port\" \"1\" ");
        assert_eq!(options(&["--port", "--hz"]), "port \"--hz\" ");
    }

    #[test]
    fn options_have_values_of_every_form() {
        let both = |one: &[&str], other: &[&str], name: &str| {
            let (one, other) = (load(one).expect("valid"), load(other).expect("valid"));
            assert_eq!(get(&one, name), get(&other, name));
            get(&one, name)
        };
        assert_eq!(both(&["--maxmemory 700mb"], &["--maxmemory '700mb'"], "maxmemory"), "734003200");
        let shutdown = both(
            &["--shutdown-on-sigterm", "nosave", "force"],
            &["--shutdown-on-sigterm", "nosave force"],
            "shutdown-on-sigterm",
        );
        assert_eq!(shutdown, "nosave force");
        assert_eq!(both(&["--save"], &["--save", ""], "save"), "");
        assert_eq!(both(&["--save", "3600", "1"], &["--save 3600 1"], "save"), "3600 1");
        assert_eq!(both(&["--save 1 2", "--save", "3 4"], &["--save", "1 2 3 4"], "save"), "1 2 3 4");
        assert_eq!(both(&["--replicaof", "h 5"], &["--slaveof", "h", "5"], "replicaof"), "h 5");
        let quoted = load(&["--requirepass", "a \"b\"\n"]).expect("valid");
        assert_eq!(quoted.requirepass.as_bytes(), b"a \"b\"\n");
    }

    #[test]
    fn options_follow_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("valkey.conf");
        std::fs::write(&path, "port 1\nsave 1 2").expect("written");
        let path = path.to_str().expect("text");
        let config = load(&[path, "--port", "2", "--save", "3", "4"]).expect("valid");
        assert_eq!((config.port, get(&config, "save").as_str()), (2, "1 2 3 4"));
        let error = load(&[path, "--port", "x"]).map(|_| ()).expect_err("no port");
        assert!(error.to_string().contains("at line 3\n>>> 'port \"x\"'\nargument couldn't"), "{error}");
        assert_eq!(get(&load(&[path, "--save", ""]).expect("valid"), "save"), "");
    }

    #[test]
    fn wrong_options_are_quoted() {
        let error = |arguments: &[&str]| load(arguments).map(|_| ()).expect_err("wrong").to_string();
        let text = error(&["--port", "6379", "6380"]);
        assert!(
            text.ends_with("at line 2\n>>> 'port \"6379\" \"6380\"'\nwrong number of arguments\n"),
            "{text}"
        );
        assert!(error(&["--foo"]).ends_with(">>> 'foo'\nBad directive or wrong number of arguments\n"));
        assert!(error(&["--user", "foo", "--user", "foo"]).contains("'foo': Duplicate user found."));
        assert!(
            error(&["/nowhere/at/all"])
                .starts_with("Fatal error, can't open config file '/nowhere/at/all': No such")
        );
    }

    #[test]
    fn a_lone_dash_reads_the_standard_input() {
        let arguments = |list: &[&str]| match parse(list) {
            Task::Serve(arguments) => arguments,
            other => panic!("{other:?}"),
        };
        let only = Arguments { file: None, reads_stdin: true, options: vec![] };
        assert_eq!(arguments(&["-"]), only);
        let last = arguments(&["/x.conf", "--port", "1", "-"]);
        assert_eq!((last.file.as_deref(), last.reads_stdin), (Some(Path::new("/x.conf")), true));
        let middle = arguments(&["/x.conf", "--bind", "-", "a"]);
        assert_eq!((middle.reads_stdin, middle.options.as_slice()), (false, b"bind \"-\" \"a\" ".as_slice()));
    }

    #[test]
    fn tasks_are_told_apart() {
        assert_eq!(parse(&["-v"]), Task::ShowVersion);
        assert_eq!(parse(&["--version"]), Task::ShowVersion);
        assert_eq!(parse(&["-h"]), Task::ShowHelp);
        assert_eq!(parse(&["--help"]), Task::ShowHelp);
        assert!(matches!(parse(&["--check-system"]), Task::Refuse(_)));
        assert!(matches!(parse(&["--test-memory", "1"]), Task::Refuse(_)));
        assert_eq!(parse(&[]), Task::Serve(Arguments::default()));
        let health = Arguments { options: b"port \"1\" ".to_vec(), ..Arguments::default() };
        assert_eq!(parse(&["--health-check", "--port", "1"]), Task::HealthCheck(health));
        assert!(version().starts_with("Understudy server v=9.1.2 sha="));
    }

    #[test]
    fn relative_files_become_absolute() {
        let Task::Serve(arguments) = parse(&["x.conf"]) else { panic!("a server") };
        let cwd = std::env::current_dir().expect("a directory");
        assert_eq!(arguments.file, Some(cwd.join("x.conf")));
    }
}
