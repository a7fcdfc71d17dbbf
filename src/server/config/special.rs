//! Directives whose values take more than one line of rules: save points, buffer limits, addresses and the
//! like. Each type says how it reads its arguments, how CONFIG GET shows it and how it is rewritten.
//!
//! Invariant: as for every directive, a set that fails has not touched the value.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::base::number::parse_i64;

use super::directive::{Line, Origin, Rewrite, format_memory, one_of, parse_memory};
use super::quote::quote;
use super::values::{
    BindAddresses, ClientsMemoryLimit, Directory, KeyspaceEvents, OomScoreAdjValues, OutputBufferLimit,
    OutputBufferLimits, Percentiles, PrimaryAddress, SavePoint, SavePoints, ShutdownOptions, Text,
};

/// A value with rules of its own.
pub trait Special {
    /// Takes the arguments, or says why not.
    fn set(&mut self, arguments: &[&[u8]], origin: Origin) -> Result<(), String>;

    /// The value as CONFIG GET answers it.
    fn get(&self) -> Vec<u8>;

    /// The value as CONFIG REWRITE writes it.
    fn rewrite(&self) -> Rewrite;
}

fn one_line(arguments: Vec<u8>, always: bool) -> Rewrite {
    Rewrite::Lines(vec![Line { arguments, always }])
}

/// A lone empty argument stands for no arguments.
fn without_lone_empty<'a, 'b>(arguments: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    match arguments {
        [b""] => &[],
        _ => arguments,
    }
}

/// An integer as C's `strtoll` reads a whole string, but without an overflow that passes silently.
fn parse_integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.trim_ascii_start().parse().ok()
}

impl ShutdownOptions {
    const NAMES: &'static [&'static str] = &["default", "save", "nosave", "now", "force", "safe", "failover"];

    /// Adds the option that `word` names in any case. `false`: it names none.
    pub fn add(&mut self, word: &[u8]) -> bool {
        let option = match word.to_ascii_lowercase().as_slice() {
            b"save" => &mut self.save,
            b"nosave" => &mut self.nosave,
            b"now" => &mut self.now,
            b"force" => &mut self.force,
            b"safe" => &mut self.safe,
            b"failover" => &mut self.failover,
            _ => return false,
        };
        *option = true;
        true
    }
}

impl Special for ShutdownOptions {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let mut options = ShutdownOptions::default();
        if arguments.is_empty() {
            return Err(one_of(Self::NAMES));
        }
        for argument in arguments {
            if !argument.eq_ignore_ascii_case(b"default") && !options.add(argument) {
                return Err(one_of(Self::NAMES));
            }
        }
        if options.save && options.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = options;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        let set = [self.save, self.nosave, self.now, self.force, self.safe, self.failover];
        let names: Vec<&str> =
            Self::NAMES.iter().skip(1).zip(set).filter_map(|(name, set)| set.then_some(*name)).collect();
        if names.is_empty() { "default".into() } else { names.join(" ").into() }
    }

    fn rewrite(&self) -> Rewrite {
        one_line(self.get(), *self != ShutdownOptions::default())
    }
}

impl Special for ClientsMemoryLimit {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let argument = arguments.first().copied().unwrap_or(b"");
        if let Some(bytes) = parse_memory(argument) {
            if i64::try_from(bytes).is_err() {
                return Err(format!("argument must be between -100 and {} inclusive", i64::MAX));
            }
            *self = ClientsMemoryLimit::Bytes(bytes);
            return Ok(());
        }
        let percent = argument.strip_suffix(b"%").and_then(parse_i64).filter(|percent| *percent >= 0);
        *self = match percent {
            Some(0) => ClientsMemoryLimit::Bytes(0),
            Some(percent @ 1..=100) => ClientsMemoryLimit::Percent(percent as u8),
            Some(_) => return Err("percentage argument must be less or equal to 100".into()),
            None => return Err("argument must be a memory or percent value".into()),
        };
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        match self {
            ClientsMemoryLimit::Bytes(bytes) => bytes.to_string().into(),
            ClientsMemoryLimit::Percent(percent) => format!("{percent}%").into(),
        }
    }

    fn rewrite(&self) -> Rewrite {
        match self {
            ClientsMemoryLimit::Bytes(bytes) => {
                one_line(format_memory(i128::from(*bytes)).into(), *bytes != 0)
            }
            ClientsMemoryLimit::Percent(_) => one_line(self.get(), true),
        }
    }
}

impl SavePoints {
    /// What holds where no `save` line says otherwise.
    pub fn built_in() -> Self {
        let point = |seconds, changes| SavePoint { seconds, changes };
        SavePoints(vec![point(3600, 1), point(300, 100), point(60, 10_000)])
    }
}

impl Special for SavePoints {
    /// A first line in a file replaces the built-in points, and further ones add to it.
    fn set(&mut self, arguments: &[&[u8]], origin: Origin) -> Result<(), String> {
        const INVALID: &str = "Invalid save parameters";
        let emptied = matches!(arguments, [b""]);
        let arguments = without_lone_empty(arguments);
        let (pairs, odd) = arguments.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(INVALID.into());
        }
        let mut points = match origin {
            Origin::FurtherLine if !emptied => self.0.clone(),
            _ => Vec::new(),
        };
        for [seconds, changes] in pairs {
            let seconds = parse_integer(seconds).filter(|seconds| *seconds >= 1).ok_or(INVALID)?;
            let changes = parse_integer(changes).filter(|changes| *changes >= 0).ok_or(INVALID)?;
            points.push(SavePoint { seconds: seconds.unsigned_abs(), changes: changes.unsigned_abs() });
        }
        self.0 = points;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        let points: Vec<String> =
            self.0.iter().map(|point| format!("{} {}", point.seconds, point.changes)).collect();
        points.join(" ").into()
    }

    /// Always written, so that a new default of a later version changes nothing.
    fn rewrite(&self) -> Rewrite {
        one_line(if self.0.is_empty() { quote(b"") } else { self.get() }, true)
    }
}

impl OutputBufferLimits {
    /// The limits with the names under which they are answered and written.
    fn classes(&self) -> [(&'static str, &'static str, OutputBufferLimit); 3] {
        [
            ("normal", "normal", self.normal),
            ("slave", "replica", self.replica),
            ("pubsub", "pubsub", self.pubsub),
        ]
    }
}

impl Special for OutputBufferLimits {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let (groups, odd) = arguments.as_chunks::<4>();
        if !odd.is_empty() {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        let mut limits = *self;
        for [class, hard, soft, seconds] in groups {
            let limit = match class.to_ascii_lowercase().as_slice() {
                b"normal" => &mut limits.normal,
                b"slave" | b"replica" => &mut limits.replica,
                b"pubsub" => &mut limits.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            let seconds = parse_integer(seconds).and_then(|seconds| u64::try_from(seconds).ok());
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (parse_memory(hard), parse_memory(soft), seconds)
            else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into()
                );
            };
            *limit = OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds };
        }
        *self = limits;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        let classes = self.classes().map(|(name, _, limit)| {
            format!("{name} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        });
        classes.join(" ").into()
    }

    fn rewrite(&self) -> Rewrite {
        let defaults = OutputBufferLimits::default().classes();
        let lines =
            self.classes().into_iter().zip(defaults).map(|((_, name, limit), (_, _, default))| Line {
                arguments: format!(
                    "{name} {} {} {}",
                    format_memory(i128::from(limit.hard_bytes)),
                    format_memory(i128::from(limit.soft_bytes)),
                    limit.soft_seconds
                )
                .into(),
                always: limit != default,
            });
        Rewrite::Lines(lines.collect())
    }
}

impl Default for OomScoreAdjValues {
    fn default() -> Self {
        OomScoreAdjValues([0, 200, 800])
    }
}

impl Special for OomScoreAdjValues {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let arguments: &[&[u8]; 3] = arguments.try_into().map_err(|_| "wrong number of arguments")?;
        let mut values = [0; 3];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = parse_integer(argument)
                .and_then(|value| i32::try_from(value).ok())
                .filter(|value| (-2000..=2000).contains(value))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?;
        }
        if !values.is_sorted() {
            tracing::warn!(
                "The oom-score-adj-values configuration may not work for non-privileged processes! Please consult the documentation."
            );
        }
        self.0 = values;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        self.0.map(|value| value.to_string()).join(" ").into()
    }

    fn rewrite(&self) -> Rewrite {
        one_line(self.get(), *self != OomScoreAdjValues::default())
    }
}

impl Special for KeyspaceEvents {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let letters = arguments.first().copied().unwrap_or(b"");
        *self = KeyspaceEvents::from_letters(letters)
            .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        self.to_letters().into()
    }

    fn rewrite(&self) -> Rewrite {
        // The answer to CONFIG GET hides `n` behind `A`; the file must not lose it.
        let mut letters = self.to_letters();
        if self.contains(KeyspaceEvents::NEW_KEY) && !letters.contains('n') {
            letters.push('n');
        }
        one_line(quote(letters.as_bytes()), !self.is_empty())
    }
}

impl Default for BindAddresses {
    fn default() -> Self {
        BindAddresses(vec![Text::from("*"), Text::from("-::*")])
    }
}

impl BindAddresses {
    const MAX: usize = 16;
}

impl Special for BindAddresses {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        if arguments.len() > Self::MAX {
            return Err("Too many bind addresses specified.".into());
        }
        self.0 = without_lone_empty(arguments).iter().map(|address| Text::from(*address)).collect();
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        let addresses: Vec<&[u8]> = self.0.iter().map(Text::as_bytes).collect();
        addresses.join(&b' ')
    }

    fn rewrite(&self) -> Rewrite {
        if *self == BindAddresses::default() {
            return Rewrite::Remove;
        }
        one_line(if self.0.is_empty() { quote(b"") } else { self.get() }, true)
    }
}

impl Special for Option<PrimaryAddress> {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let [host, port] = arguments else { return Err("wrong number of arguments".into()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *self = None;
            return Ok(());
        }
        let port =
            parse_integer(port).and_then(|port| u16::try_from(port).ok()).ok_or("Invalid primary port")?;
        *self = Some(PrimaryAddress { host: Text::from(*host), port });
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        match self {
            Some(primary) => [primary.host.as_bytes(), primary.port.to_string().as_bytes()].join(&b' '),
            None => Vec::new(),
        }
    }

    fn rewrite(&self) -> Rewrite {
        if self.is_none() { Rewrite::Remove } else { one_line(self.get(), true) }
    }
}

impl Default for Percentiles {
    fn default() -> Self {
        Percentiles(vec![50.0, 99.0, 99.9])
    }
}

impl Special for Percentiles {
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let mut percentiles = Vec::new();
        for argument in without_lone_empty(arguments) {
            let percentile: f64 = std::str::from_utf8(argument)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|percentile: &f64| !percentile.is_nan())
                .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&percentile) {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into()
                );
            }
            percentiles.push(percentile);
        }
        self.0 = percentiles;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        let percentiles: Vec<String> = self
            .0
            .iter()
            .map(|percentile| {
                format!("{percentile:.6}").trim_end_matches('0').trim_end_matches('.').to_owned()
            })
            .collect();
        percentiles.join(" ").into()
    }

    /// Always written, for the reason that save points are.
    fn rewrite(&self) -> Rewrite {
        one_line(if self.0.is_empty() { quote(b"") } else { self.get() }, true)
    }
}

impl Default for Directory {
    /// The working directory; the root if there is none any more.
    fn default() -> Self {
        Directory(std::env::current_dir().unwrap_or_else(|_| "/".into()))
    }
}

impl Special for Directory {
    /// A relative path starts from the old value. The directory must exist and be one that can be entered;
    /// entering it is the server's part.
    fn set(&mut self, arguments: &[&[u8]], _origin: Origin) -> Result<(), String> {
        let argument = arguments.first().copied().unwrap_or(b"");
        if argument.is_empty() {
            return Err("dir can't be empty".into());
        }
        let path = self.0.join(Path::new(std::ffi::OsStr::from_bytes(argument)));
        // Asking for the entry `.` fails exactly where entering the directory would.
        let entered = std::fs::metadata(path.join(".")).and_then(|_| std::fs::canonicalize(&path));
        self.0 = entered.map_err(|error| system_reason(&error))?;
        Ok(())
    }

    fn get(&self) -> Vec<u8> {
        self.0.clone().into_os_string().into_vec()
    }

    fn rewrite(&self) -> Rewrite {
        one_line(quote(&self.get()), true)
    }
}

/// The system's own words for an error, without the number that Rust appends.
pub fn system_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}
