//! LATENCY: what took long, and how long calls take.

use std::fmt::Write;

use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::call::Call;
use crate::server::histogram::Counts;
use crate::server::latency::{Series, event};
use crate::server::table::{Entry, HostCommand, HostHandler, HostOutcome, PlainFn};

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);
const TIPS: &[&str] = &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
const EVENT: Argument = Argument::new("event", ArgumentKind::String);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "latency",
    summary: "What took long, and how long calls take.",
    since: "2.8.13",
    complexity: "Depends on subcommand",
    group: Group::Server,
    ..Command::container(&[
        HostCommand {
            name: "doctor",
            summary: "A report of what took long, with advice.",
            arity: 2,
            ..command(|call| {
                let report = report(call.server());
                Ok(Reply::Verbatim(*b"txt", report.into_bytes()).into())
            })
        },
        HostCommand {
            name: "graph",
            summary: "The samples of an event, drawn in characters.",
            arity: 3,
            arguments: &[EVENT],
            ..command(|call| {
                let Some((name, series)) = call.server().latency.series(call.args[2]) else {
                    let mut text = b"ERR No samples available for event '".to_vec();
                    text.extend_from_slice(call.args[2]);
                    text.push(b'\'');
                    return Err(ErrorReply::from_text(text));
                };
                let graph = graph(name, &series, call.server().now_ms());
                Ok(Reply::Verbatim(*b"txt", graph.into_bytes()).into())
            })
        },
        Command::help("2.8.13", Group::Server, HELP),
        HostCommand {
            name: "histogram",
            summary: "How many calls of commands took how long.",
            since: "7.0.0",
            complexity: "O(N), N being the number of commands that were called",
            arity: -2,
            arguments: &[Argument::new("command", ArgumentKind::String).optional().multiple()],
            ..command(histogram)
        },
        HostCommand {
            name: "history",
            summary: "The samples of an event.",
            arity: 3,
            arguments: &[EVENT],
            ..command(|call| {
                let series = call.server().latency.series(call.args[2]);
                let samples = series.map(|(_, series)| series.samples).unwrap_or_default();
                let pair = |sample: crate::server::latency::Sample| {
                    Reply::Array(vec![integer(sample.unix_seconds), integer(sample.milliseconds)])
                };
                Ok(Reply::Array(samples.into_iter().map(pair).collect()).into())
            })
        },
        HostCommand {
            name: "latest",
            summary: "The latest sample of each event.",
            arity: 2,
            ..command(|call| {
                let events = call.server().latency.events();
                Ok(Reply::Array(events.into_iter().map(latest).collect()).into())
            })
        },
        HostCommand {
            name: "reset",
            summary: "Forgets the samples of some events, or of all.",
            arity: -2,
            arguments: &[EVENT.optional().multiple()],
            tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
            ..command(|call| {
                let latency = &call.server().latency;
                let count = match &call.args[2..] {
                    [] => latency.reset(None),
                    events => events.iter().map(|event| latency.reset(Some(event))).sum(),
                };
                Ok(integer(count as u64).into())
            })
        },
    ])
}];

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a report of what took long, with advice.",
    "GRAPH <event>",
    "    Return the samples of an event, drawn in characters.",
    "HISTORY <event>",
    "    Return the samples of an event: when, and how many milliseconds.",
    "LATEST",
    "    Return the latest sample of each event, its worst ever, the sum and the number of all.",
    "RESET [<event> ...]",
    "    Forget the samples of the events, or of all.",
    "HISTOGRAM [<command> ...]",
    "    Return how many calls of the commands, or of all, took how many microseconds at most.",
];

const fn command(function: PlainFn) -> HostCommand {
    Command {
        since: "2.8.13",
        group: Group::Server,
        flags: ADMIN,
        tips: TIPS,
        ..Command::host(HostHandler::Plain(function))
    }
}

fn integer(number: u64) -> Reply<'static> {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn latest((name, series): (&'static str, Series)) -> Reply<'static> {
    let last = series.samples.last();
    Reply::Array(vec![
        Reply::Bulk(name.as_bytes()),
        integer(last.map_or(0, |sample| sample.unix_seconds)),
        integer(last.map_or(0, |sample| sample.milliseconds)),
        integer(series.longest_ms),
        integer(series.sum_ms),
        integer(series.count),
    ])
}

// ---- HISTOGRAM ----

fn histogram(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    let mut rows = Vec::new();
    let mut add = |entry: &'static Entry| {
        let counts = server.latencies(entry);
        if counts.total > 0 {
            rows.push((Reply::Bulk(entry.full_name.as_bytes()), distribution(&counts)));
        }
    };
    match &call.args[2..] {
        [] => server.table.entries().iter().for_each(add),
        names => {
            for entry in names.iter().filter_map(|name| server.table.find_full(name)) {
                add(entry);
                entry.subcommands.iter().for_each(|id| add(server.table.entry(*id)));
            }
        }
    }
    Ok(Reply::Map(rows).into())
}

fn distribution(counts: &Counts) -> Reply<'static> {
    let rows = counts.cumulative().into_iter().map(|(most, count)| (integer(most), integer(count)));
    Reply::Map(vec![
        (Reply::Bulk(b"calls"), integer(counts.total)),
        (Reply::Bulk(b"histogram_usec"), Reply::Map(rows.collect())),
    ])
}

// ---- GRAPH ----

const COLUMNS: usize = 80;
const ROWS: usize = 4;
/// How far a column reaches into a row.
const MARKS: &[u8] = b"_o#";

/// One column for each sample, `COLUMNS` side by side; under each how long ago it was, written downwards.
fn graph(name: &str, series: &Series, now_ms: u64) -> String {
    let values = || series.samples.iter().map(|sample| sample.milliseconds);
    let (least, most) = (values().min().unwrap_or(0), values().max().unwrap_or(0));
    let mut out = format!(
        "{name} - high {most} ms, low {least} ms (all time high {} ms)\n{}\n",
        series.longest_ms,
        "-".repeat(COLUMNS)
    );
    let blocks = series.samples.chunks(COLUMNS).map(|samples| {
        let columns: Vec<(usize, String)> = samples
            .iter()
            .map(|sample| {
                let height = height(sample.milliseconds - least, most - least);
                (height, age((now_ms / 1000).saturating_sub(sample.unix_seconds)))
            })
            .collect();
        let labels = columns.iter().map(|(_, label)| label.len()).max().unwrap_or(0);
        // An empty line parts the columns from their labels.
        let lines = (0..ROWS + 1 + labels).map(|line| {
            columns.iter().map(|(height, label)| character(line, *height, label)).collect::<String>() + "\n"
        });
        lines.collect::<String>()
    });
    out += &blocks.collect::<Vec<_>>().join("\n");
    out
}

/// In steps of a third of a row.
fn height(value: u64, range: u64) -> usize {
    let steps = ROWS * MARKS.len();
    let step = (value as f64 * steps as f64 / range.max(1) as f64) as usize;
    step.min(steps - 1)
}

fn character(line: usize, height: usize, label: &str) -> char {
    if line < ROWS {
        let below = (ROWS - line - 1) * MARKS.len();
        return match height.checked_sub(below) {
            Some(within) if within < MARKS.len() => MARKS[within] as char,
            Some(_) => '|',
            None => ' ',
        };
    }
    line.checked_sub(ROWS + 1).and_then(|index| label.as_bytes().get(index)).map_or(' ', |byte| *byte as char)
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

// ---- DOCTOR ----

fn report(server: &Server) -> String {
    let events = server.latency.events();
    if events.is_empty() {
        return if server.latency.is_on() {
            "Nothing has taken longer than latency-monitor-threshold since the server was started or reset.\n"
                .into()
        } else {
            "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> turns it on.\n"
                .into()
        };
    }
    let mut report = "Latency spikes are observed in this Valkey instance.\n\n".to_owned();
    let mut advice: Vec<String> = Vec::new();
    for (index, (name, series)) in events.iter().enumerate() {
        let (mean, deviation, seconds) = series.analysis(server.now_ms());
        let count = series.samples.len();
        // Writing to a String cannot fail.
        let _ = writeln!(
            report,
            "{}. {name}: {count} latency spikes (average {mean}ms, mean deviation {deviation}ms, period {:.2} sec). \
             Worst all time event {}ms.",
            index + 1,
            seconds as f64 / count.max(1) as f64,
            series.longest_ms
        );
        for text in advice_about(name, server) {
            if !advice.contains(&text) {
                advice.push(text);
            }
        }
    }
    report.push_str("\nHere is some advice for you:\n\n");
    for text in advice {
        let _ = writeln!(report, "- {text}");
    }
    report
}

fn advice_about(event_name: &str, server: &Server) -> Vec<String> {
    let config = server.config();
    let disk = "Keep the AOF on a local disk that nobody else keeps busy; an SSD syncs fastest.".to_owned();
    match event_name {
        event::COMMAND => {
            let threshold_us = config.latency_monitor_threshold_ms.saturating_mul(1000);
            let slower_than = config.commandlog_execution_slower_than_us;
            let logs = u64::try_from(slower_than).is_ok_and(|slower| slower <= threshold_us);
            let look = if logs && config.commandlog_slow_execution_max_len > 0 {
                "COMMANDLOG GET -1 slow shows which commands were slow.".to_owned()
            } else {
                format!(
                    "Let the slow log keep what the monitor sees: CONFIG SET commandlog-execution-slower-than {threshold_us}."
                )
            };
            vec![look, "Commands over large values hold up everybody: part such values, or read them in steps (SCAN, HSCAN, LRANGE).".into()]
        }
        event::FAST_COMMAND => vec![
            "Commands that need microseconds had to wait for a processor: lower the load of the machine, or give the server one of its own."
                .into(),
        ],
        event::EXPIRE_CYCLE => {
            vec!["Many keys expired at once: spread their times, or raise hz so that each round does less.".into()]
        }
        event::AOF_FSYNC_ALWAYS => {
            vec!["Every write waits for the disk: `appendfsync everysec` does not.".into(), disk]
        }
        _ => vec![disk],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::latency::Sample;

    #[test]
    fn graphs_are_drawn_as_valkey_draws_them() {
        let sample = |unix_seconds, milliseconds| Sample { unix_seconds, milliseconds };
        let series = Series {
            samples: vec![sample(3, 20), sample(4, 50), sample(5, 30)],
            longest_ms: 50,
            ..Series::default()
        };
        let expected = [
            "command - high 50 ms, low 20 ms (all time high 50 ms)",
            &"-".repeat(80),
            " # ",
            " | ",
            " |o",
            "_||",
            "   ",
            "210",
            "sss",
            "",
        ];
        assert_eq!(graph("command", &series, 5_000), expected.join("\n"));
    }
}
