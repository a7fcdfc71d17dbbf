//! The log: lines as Valkey writes them, so that what reads Valkey's log reads this one.
//!
//! Messages come through `tracing`'s macros; this module is the subscriber behind them. A message below the
//! level costs one load of an atomic where it stands (the level is `tracing`'s own maximum), so hot paths
//! may log. The levels are `error!`/`warn!` for Valkey's warning, `info!` for notice, `debug!` for verbose
//! and `trace!` for debug. Only this crate's messages are logged, and spans mean nothing here.
//!
//! Invariants: one message is one write, and a file is opened for every message, to append: other programs
//! may write to it, move it or cut it at any time. Logging never fails and never panics.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use super::config::{Config, LogFormat, LogLevel, LogTimestampFormat, SyslogFacility};

/// The target of text that goes to the log as it is, without time and level: the logo.
pub const RAW: &str = "understudy::raw";

/// What the server is, as every line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    Primary,
    Replica,
}

/// Settings and sinks, one per process.
struct Log {
    settings: Mutex<Settings>,
}

#[derive(Clone)]
struct Settings {
    level: LogLevel,
    format: LogFormat,
    timestamps: LogTimestampFormat,
    /// Absolute; `None` is the standard output.
    file: Option<PathBuf>,
    syslog: Option<Syslog>,
    zone: TimeZone,
}

#[derive(Clone, PartialEq)]
struct Syslog {
    ident: String,
    facility: SyslogFacility,
}

static LOG: OnceLock<Log> = OnceLock::new();
/// The level as a number, where the check before formatting reads it.
static MAX_LEVEL: AtomicU8 = AtomicU8::new(NOTICE);
static ROLE: AtomicU8 = AtomicU8::new(Role::Primary as u8);
static HIDES_USER_DATA: AtomicBool = AtomicBool::new(true);

const NOTICE: u8 = 2;

thread_local! {
    static IS_BACKGROUND: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Sends this process's messages to the log, with the default settings: level notice, standard output.
/// Call it first of all; a second call does nothing.
pub fn install() {
    let settings = Settings {
        level: LogLevel::Notice,
        format: LogFormat::Legacy,
        timestamps: LogTimestampFormat::Legacy,
        file: None,
        syslog: None,
        zone: TimeZone::system(),
    };
    if LOG.set(Log { settings: Mutex::new(settings) }).is_ok() {
        // Fails where a test has its own subscriber, which is then the one to use.
        let _ = tracing::subscriber::set_global_default(LogSubscriber);
    }
}

/// Takes the settings of the configuration: at the start, and after a change that asks for it.
pub fn configure(config: &Config) {
    HIDES_USER_DATA.store(config.hide_user_data_from_log, Ordering::Relaxed);
    MAX_LEVEL.store(verbosity(config.loglevel), Ordering::Relaxed);
    if let Some(log) = LOG.get() {
        let mut settings = log.settings.lock();
        settings.level = config.loglevel;
        settings.format = config.log_format;
        settings.timestamps = config.log_timestamp_format;
        settings.file = (!config.logfile.is_empty()).then(|| config.dir.0.join(config.logfile.as_path()));
        settings.syslog = config.syslog_enabled.then(|| Syslog {
            ident: config.syslog_ident.to_str().into_owned(),
            facility: config.syslog_facility,
        });
    }
    tracing::callsite::rebuild_interest_cache();
}

/// Says what the server is from now on.
pub fn set_role(role: Role) {
    ROLE.store(role as u8, Ordering::Relaxed);
}

/// Marks this thread as one that saves data in the background, where Valkey has a child process: its lines
/// carry the letter `C`.
pub fn mark_background_thread() {
    IS_BACKGROUND.set(true);
}

/// User data in a message: shows as `*redacted*` unless `hide-user-data-from-log` is no.
pub struct UserData<'a>(pub &'a [u8]);

impl fmt::Display for UserData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match HIDES_USER_DATA.load(Ordering::Relaxed) {
            true => f.write_str("*redacted*"),
            false => f.write_str(&String::from_utf8_lossy(self.0)),
        }
    }
}

/// How many of the levels, from the most important, are logged.
const fn verbosity(level: LogLevel) -> u8 {
    match level {
        LogLevel::Nothing => 0,
        LogLevel::Warning => 1,
        LogLevel::Notice => NOTICE,
        LogLevel::Verbose => 3,
        LogLevel::Debug => 4,
    }
}

fn level_of(level: &Level) -> LogLevel {
    match *level {
        Level::ERROR | Level::WARN => LogLevel::Warning,
        Level::INFO => LogLevel::Notice,
        Level::DEBUG => LogLevel::Verbose,
        Level::TRACE => LogLevel::Debug,
    }
}

fn is_enabled(metadata: &Metadata<'_>) -> bool {
    let is_ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
    metadata.is_event()
        && is_ours
        && verbosity(level_of(metadata.level())) <= MAX_LEVEL.load(Ordering::Relaxed)
}

struct LogSubscriber;

impl Subscriber for LogSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        match is_enabled(metadata) {
            true => tracing::subscriber::Interest::always(),
            false => tracing::subscriber::Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match MAX_LEVEL.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::WARN,
            2 => LevelFilter::INFO,
            3 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_enabled(metadata)
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(log) = LOG.get() else { return };
        let mut message = Message(String::new());
        event.record(&mut message);
        let settings = log.settings.lock().clone();
        if event.metadata().target() == RAW {
            message.0.push('\n');
            return settings.write(message.0.as_bytes());
        }
        let stamp = Stamp {
            pid: std::process::id(),
            role: RoleOfLine::current(),
            time: Timestamp::now().to_zoned_datetime(settings.zone.clone()),
            level: level_of(event.metadata().level()),
        };
        settings.write(settings.line(&stamp, &message.0).as_bytes());
        if let Some(syslog) = &settings.syslog {
            syslog.send(&stamp, &message.0);
        }
    }
}

/// Collects the text of an event; fields other than the message follow it as `name=value`.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string fails only if the value's own formatting does; the rest is logged then.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[derive(Clone, Copy)]
enum RoleOfLine {
    Primary,
    Replica,
    Background,
}

impl RoleOfLine {
    fn current() -> Self {
        match IS_BACKGROUND.get() {
            true => RoleOfLine::Background,
            false if ROLE.load(Ordering::Relaxed) == Role::Replica as u8 => RoleOfLine::Replica,
            false => RoleOfLine::Primary,
        }
    }

    fn letter(self) -> char {
        match self {
            RoleOfLine::Primary => 'M',
            RoleOfLine::Replica => 'S',
            RoleOfLine::Background => 'C',
        }
    }

    fn name(self) -> &'static str {
        match self {
            RoleOfLine::Primary => "primary",
            RoleOfLine::Replica => "replica",
            RoleOfLine::Background => "RDB/AOF",
        }
    }
}

/// What stands beside the message.
struct Stamp {
    pid: u32,
    role: RoleOfLine,
    time: ZonedDateTime,
    level: LogLevel,
}

impl Stamp {
    fn level_letter(&self) -> char {
        match self.level {
            LogLevel::Debug => '.',
            LogLevel::Verbose => '-',
            LogLevel::Notice => '*',
            LogLevel::Warning | LogLevel::Nothing => '#',
        }
    }

    /// The structured formats say `info` for verbose.
    fn level_name(&self) -> &'static str {
        match self.level {
            LogLevel::Debug => "debug",
            LogLevel::Verbose => "info",
            LogLevel::Notice => "notice",
            LogLevel::Warning | LogLevel::Nothing => "warning",
        }
    }

    fn timestamp(&self, format: LogTimestampFormat) -> String {
        match format {
            LogTimestampFormat::Legacy => self.time.strftime("%d %b %Y %H:%M:%S.%3f").to_string(),
            LogTimestampFormat::Iso8601 => self.time.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string(),
            LogTimestampFormat::Milliseconds => self.time.timestamp().as_millisecond().to_string(),
        }
    }
}

impl Settings {
    fn line(&self, stamp: &Stamp, message: &str) -> String {
        let time = stamp.timestamp(self.timestamps);
        let Stamp { pid, role, .. } = stamp;
        match self.format {
            LogFormat::Legacy => {
                format!("{pid}:{} {time} {} {message}\n", role.letter(), stamp.level_letter())
            }
            LogFormat::Logfmt => {
                let message = message.replace('"', "'").replace(['\n', '\r'], " ");
                let (role, level) = (role.name(), stamp.level_name());
                format!("pid={pid} role={role} timestamp=\"{time}\" level={level} message=\"{message}\"\n")
            }
            LogFormat::Json => {
                let (role, level, message) = (role.name(), stamp.level_name(), json_text(message));
                format!(
                    "{{\"pid\":{pid},\"role\":\"{role}\",\"timestamp\":\"{time}\",\"level\":\"{level}\",\"message\":\"{message}\"}}\n"
                )
            }
        }
    }

    /// A log that cannot be written to must not stop the server, so errors end here.
    fn write(&self, line: &[u8]) {
        let _ = match &self.file {
            Some(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .and_then(|mut file| file.write_all(line)),
            None => {
                let mut stdout = std::io::stdout().lock();
                stdout.write_all(line).and_then(|()| stdout.flush())
            }
        };
    }
}

/// The inside of a JSON string.
fn json_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\0'..='\x1f' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => escaped.push(character),
        }
    }
    escaped
}

impl Syslog {
    /// Sends the message to the system log in the form of RFC 3164, as the C library does.
    fn send(&self, stamp: &Stamp, message: &str) {
        let severity = match stamp.level {
            LogLevel::Debug => 7,
            LogLevel::Verbose => 6,
            LogLevel::Notice => 5,
            LogLevel::Warning | LogLevel::Nothing => 4,
        };
        let facility = match self.facility {
            SyslogFacility::User => 1,
            SyslogFacility::Local0 => 16,
            SyslogFacility::Local1 => 17,
            SyslogFacility::Local2 => 18,
            SyslogFacility::Local3 => 19,
            SyslogFacility::Local4 => 20,
            SyslogFacility::Local5 => 21,
            SyslogFacility::Local6 => 22,
            SyslogFacility::Local7 => 23,
        };
        let priority = facility * 8 + severity;
        let time = stamp.time.strftime("%b %e %H:%M:%S");
        let line = format!("<{priority}>{time} {}[{}]: {message}", self.ident, stamp.pid);
        // As with the file: there is nobody to tell.
        let _ = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to(line.as_bytes(), "/dev/log")
        });
    }
}

/// Logs how the server starts: which program, which version, which process. With `always-show-logo`, or
/// where a person watches the standard output, the logo too.
pub fn starting(config: &Config, has_configuration: bool) {
    use super::command_line::VALKEY_VERSION;
    let pid = std::process::id();
    let build = env!("CARGO_PKG_VERSION");
    tracing::info!("oO0OoO0OoO0Oo Understudy is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "Valkey version={VALKEY_VERSION}, bits={}, commit=00000000, modified=0, pid={pid}, just started",
        usize::BITS
    );
    match has_configuration {
        true => tracing::info!("Configuration loaded"),
        false => tracing::warn!("Warning: no config file specified, using the default config."),
    }
    let is_watched = config.logfile.is_empty()
        && !config.syslog_enabled
        && std::io::IsTerminal::is_terminal(&std::io::stdout());
    if config.always_show_logo || is_watched {
        tracing::info!(target: RAW, "{}", logo(build, config.port, pid));
    } else {
        tracing::info!("Running mode=standalone, port={}.", config.port);
    }
}

/// Two masks behind a curtain, and beside them what the test suite looks for.
fn logo(build: &str, port: u16, pid: u32) -> String {
    format!(
        r"
     _____________________
    |  |  |  |   |  |  |  |
    |  |  | /     \ |  |  |      Understudy {build}
    |  | /  .---.  .---.\  |
    | /    / o o \/ o o \  |     Running in standalone mode
    |/    |  \_/  ||  _  | |     Port: {port}
    |      \_____/ \ / \/  |     PID: {pid}
    |_______________\____\_|
"
    )
}
