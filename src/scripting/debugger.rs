//! The debugger of scripts: where a script stops, and what the person who debugs it may ask then. It knows no sockets:
//! commands come from a [`Console`], and lines go there.
//!
//! What needs no Lua is here, the rest in [`hooks`]. A state that is not debugged has neither the hook of lines nor the
//! functions of the API that a debugger hears of, so other scripts pay nothing for it.
//!
//! Invariants: while the console has no command the script is suspended where it stopped; of a value no more text is made
//! than is shown; what a script prints without stopping is bounded.

mod hooks;
mod values;

use std::time::{Duration, Instant};

use self::values::Shown;
use crate::base::number::parse_i64;

pub(super) use hooks::{breakpoint, call, debug, error_reply, on_event, pcall_command};

/// A command of the person who debugs, and its arguments.
pub type DebugCommand = Vec<Vec<u8>>;

/// The person who debugs, as the debugger sees them.
pub trait Console: Send {
    /// Another line, of any bytes, for when the script stops, or ends.
    fn show(&mut self, line: Vec<u8>);

    /// The lines so far are all that there is to be shown now.
    fn flush(&mut self);

    /// The next command. `None`: there is none yet, so the script is left until it is gone on with.
    fn command(&mut self) -> Option<DebugCommand>;

    /// The script is to be ended: it is left for good.
    fn abort(&mut self);
}

/// The most breakpoints of a session.
const MOST_BREAKPOINTS: usize = 64;
/// How much of a value or a reply is shown at first.
const LENGTH: usize = 256;
/// No smaller length can be asked for, but 0, which is [`MOST_SHOWN`].
const LEAST_LENGTH: usize = 60;
/// The most bytes of a line, and about the most that lies waiting to be shown.
const MOST_SHOWN: usize = 1 << 20;
/// How many lines `list` shows on either side.
const CONTEXT: i64 = 5;

/// The state of a session. See the module's comment.
pub struct Debugger {
    console: Box<dyn Console>,
    source: Vec<Vec<u8>>,
    breakpoints: Vec<i64>,
    /// Stop at the next line, and show the commands that are called until then.
    steps: bool,
    /// `redis.breakpoint` was called: stop at the next line.
    stops_next: bool,
    /// The line that is about to run, counted from 1.
    line: i64,
    /// 0 is as much as there may be.
    length: usize,
    /// It was said that there is more than is shown, or it is known.
    is_hinted: bool,
    /// Code of the person who debugs is running: nothing stops it.
    evaluates: bool,
    /// A script that runs for so long without stopping is stopped.
    patience: Duration,
    resumed: Instant,
    /// The bytes of lines that wait to be shown.
    unshown: usize,
    /// The command that is being carried out.
    command: DebugCommand,
    /// The line that is being made.
    text: Shown,
    /// Code to compile.
    code: Vec<u8>,
}

/// What is to be done about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Nothing more: its answer is among the lines.
    Answered,
    /// Let the script go on.
    Resume,
    Abort,
    PrintAll,
    Print,
    Trace,
    Evaluate,
    Call,
}

/// Why a script stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Step,
    Breakpoint,
    Called,
    Timeout,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Reason::Step => "step over",
            Reason::Breakpoint => "break point",
            Reason::Called => "server.breakpoint() called",
            Reason::Timeout => "timeout reached, infinite loop?",
        }
    }
}

/// A command as it is looked up and explained.
struct Known {
    name: &'static str,
    /// What may be written for it.
    short: &'static str,
    parameters: &'static str,
    /// The least and the most arguments.
    arguments: (usize, usize),
    /// `None`: it is another name of one that is explained.
    help: Option<&'static str>,
    run: fn(&mut Debugger, &[Vec<u8>]) -> Action,
}

const KNOWN: &[Known] = &[
    Known {
        name: "help",
        short: "h",
        parameters: "",
        arguments: (0, 0),
        help: Some("Explains the commands."),
        run: |debugger, _| debugger.help(),
    },
    Known {
        name: "maxlen",
        short: "max",
        parameters: " [len]",
        arguments: (0, 1),
        help: Some(
            "How many bytes are shown of a value or a reply. 0 is as many as there are. Tells the present number if none \
             is given.",
        ),
        run: Debugger::maxlen,
    },
    Known {
        name: "maxlen",
        short: "m",
        parameters: "",
        arguments: (0, 1),
        help: None,
        run: Debugger::maxlen,
    },
    Known {
        name: "step",
        short: "s",
        parameters: "",
        arguments: (0, 0),
        help: Some("Goes on to the next line."),
        run: |debugger, _| debugger.step(),
    },
    Known {
        name: "next",
        short: "n",
        parameters: "",
        arguments: (0, 0),
        help: Some("The same as step."),
        run: |debugger, _| debugger.step(),
    },
    Known {
        name: "continue",
        short: "c",
        parameters: "",
        arguments: (0, 0),
        help: Some("Goes on to a breakpoint, or to the end."),
        run: |_, _| Action::Resume,
    },
    Known {
        name: "list",
        short: "l",
        parameters: " [line] [ctx]",
        arguments: (0, 2),
        help: Some("The script near [line], or near where it is. [ctx] is how many lines before and behind."),
        run: Debugger::list,
    },
    Known {
        name: "whole",
        short: "w",
        parameters: "",
        arguments: (0, 0),
        help: Some("The whole script."),
        run: |debugger, _| debugger.list_near(1, i64::MAX),
    },
    Known {
        name: "print",
        short: "p",
        parameters: " [var]",
        arguments: (0, 1),
        help: Some("The value of a variable, of KEYS or of ARGV; if none is named, of all local variables."),
        run: |_, arguments| if arguments.is_empty() { Action::PrintAll } else { Action::Print },
    },
    Known {
        name: "break",
        short: "b",
        parameters: " [line|-line]",
        arguments: (0, 1),
        help: Some(
            "Sets a breakpoint at a line, or takes it away. 0 takes all away. Lists them if no line is given.",
        ),
        run: Debugger::change_breakpoints,
    },
    Known {
        name: "trace",
        short: "t",
        parameters: "",
        arguments: (0, 0),
        help: Some("The calls that led here, the last one first."),
        run: |_, _| Action::Trace,
    },
    Known {
        name: "eval",
        short: "e",
        parameters: " <code>",
        arguments: (1, usize::MAX),
        help: Some("Runs Lua code, which does not see local variables."),
        run: |_, _| Action::Evaluate,
    },
    Known {
        name: "valkey",
        short: "v",
        parameters: " <cmd>",
        arguments: (1, usize::MAX),
        help: Some("Calls a command as the script would."),
        run: |_, _| Action::Call,
    },
    Known {
        name: "redis",
        short: "r",
        parameters: "",
        arguments: (1, usize::MAX),
        help: None,
        run: |_, _| Action::Call,
    },
    Known {
        name: "server",
        short: "server",
        parameters: "",
        arguments: (1, usize::MAX),
        help: None,
        run: |_, _| Action::Call,
    },
    Known {
        name: "abort",
        short: "a",
        parameters: "",
        arguments: (0, 0),
        help: Some("Ends the script where it is. In sync mode what it has changed stays changed."),
        run: |_, _| Action::Abort,
    },
];

/// Columns of the names and of the explanations in the help.
const HELP_NAMES: usize = 21;
const HELP_TEXT: usize = 49;

impl Debugger {
    /// For one run of a script with this body, which is stopped at its first line.
    pub fn new(body: &[u8], patience: Duration, console: Box<dyn Console>) -> Box<Self> {
        let end = body.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
        Box::new(Debugger {
            console,
            source: body[..end].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
            breakpoints: Vec::new(),
            steps: true,
            stops_next: false,
            line: 0,
            length: LENGTH,
            is_hinted: false,
            evaluates: false,
            patience,
            resumed: Instant::now(),
            unshown: 0,
            command: Vec::new(),
            text: Shown::default(),
            code: Vec::new(),
        })
    }

    // ---- Lines ----

    fn show(&mut self, line: Vec<u8>) {
        if self.unshown > MOST_SHOWN {
            return;
        }
        self.unshown += line.len() + 1;
        self.console.show(line);
        if self.unshown > MOST_SHOWN {
            self.console.show(b"<hint> There is more, which is not shown: it is too much at once.".to_vec());
        }
    }

    fn flush(&mut self) {
        self.unshown = 0;
        self.console.flush();
    }

    /// Begins a line of which no more is made than is shown.
    fn begin(&mut self, start: &[u8]) {
        let most = if self.length == 0 { MOST_SHOWN } else { self.length.min(MOST_SHOWN) };
        self.text = Shown::new(start, most);
    }

    /// Shows the line that was begun.
    fn end(&mut self) {
        let (line, is_cut) = std::mem::take(&mut self.text).finish();
        self.show(line);
        if is_cut && !std::mem::replace(&mut self.is_hinted, true) {
            self.show(b"<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.".to_vec());
        }
    }

    fn show_source(&mut self, number: i64) {
        let arrow = if number == self.line { "->" } else { "  " };
        let mark = if self.breakpoints.contains(&number) { '#' } else { ' ' };
        let mut line = format!("{arrow}{mark}{number:<3} ").into_bytes();
        let source = usize::try_from(number - 1).ok().and_then(|index| self.source.get(index));
        line.extend_from_slice(source.map_or(b"<out of range source code line>", Vec::as_slice));
        self.show(line);
    }

    // ---- Stopping ----

    /// Is the script to stop at its present line? `counted`: it has been running for a while.
    fn reason_to_stop(&self, counted: bool) -> Option<Reason> {
        if self.stops_next {
            Some(Reason::Called)
        } else if self.breakpoints.contains(&self.line) {
            Some(Reason::Breakpoint)
        } else if self.steps {
            Some(Reason::Step)
        } else {
            (counted && self.resumed.elapsed() >= self.patience).then_some(Reason::Timeout)
        }
    }

    fn stop(&mut self, reason: Reason) {
        self.steps = false;
        self.stops_next = false;
        self.show(format!("* Stopped at {}, stop reason = {}", self.line, reason.text()).into_bytes());
        self.show_source(self.line);
        self.flush();
    }

    // ---- Commands ----

    /// Takes the next command, if there is one, and carries it out as far as no Lua is needed.
    fn next_action(&mut self) -> Option<Action> {
        let command = self.console.command()?;
        let known = command.split_first().and_then(|(name, arguments)| {
            let is_named = |known: &&Known| {
                [known.name, known.short].iter().any(|text| name.eq_ignore_ascii_case(text.as_bytes()))
            };
            let known = KNOWN.iter().find(is_named)?;
            let (least, most) = known.arguments;
            (least..=most).contains(&arguments.len()).then_some(known)
        });
        let action = match known {
            Some(known) => (known.run)(self, &command[1..]),
            None => {
                self.show(b"<error> Unknown Lua debugger command or wrong number of arguments.".to_vec());
                Action::Answered
            }
        };
        self.command = command;
        if action == Action::Resume {
            self.resumed = Instant::now();
        }
        Some(action)
    }

    fn step(&mut self) -> Action {
        self.steps = true;
        Action::Resume
    }

    fn list(&mut self, arguments: &[Vec<u8>]) -> Action {
        let around = arguments.first().map_or(0, |argument| leading_number(argument));
        let context = arguments.get(1).map_or(CONTEXT, |argument| leading_number(argument));
        self.list_near(if around > 0 { around } else { self.line }, context)
    }

    fn list_near(&mut self, around: i64, context: i64) -> Action {
        for number in 1..=self.source.len() as i64 {
            if around.abs_diff(number) as i128 <= i128::from(context) {
                self.show_source(number);
            }
        }
        Action::Answered
    }

    fn change_breakpoints(&mut self, arguments: &[Vec<u8>]) -> Action {
        let Some(argument) = arguments.first() else { return self.list_breakpoints() };
        let answer = match parse_i64(argument) {
            None => [b"Invalid argument:'".as_slice(), argument, b"'"].concat(),
            Some(0) => {
                self.breakpoints.clear();
                b"All breakpoints removed.".to_vec()
            }
            Some(line @ 1..) if self.breakpoints.len() < MOST_BREAKPOINTS => {
                if line <= self.source.len() as i64 && !self.breakpoints.contains(&line) {
                    self.breakpoints.push(line);
                    return self.list_near(line, 1);
                }
                b"Wrong line number.".to_vec()
            }
            Some(1..) => b"Too many breakpoints set.".to_vec(),
            Some(line) => match self.breakpoints.iter().position(|set| Some(*set) == line.checked_neg()) {
                Some(place) => {
                    self.breakpoints.remove(place);
                    b"Breakpoint removed.".to_vec()
                }
                None => b"No breakpoint in the specified line.".to_vec(),
            },
        };
        self.show(answer);
        Action::Answered
    }

    fn list_breakpoints(&mut self) -> Action {
        if self.breakpoints.is_empty() {
            self.show(b"No breakpoints set. Use 'b <line>' to add one.".to_vec());
        } else {
            self.show(format!("{} breakpoints set:", self.breakpoints.len()).into_bytes());
            for line in self.breakpoints.clone() {
                self.show_source(line);
            }
        }
        Action::Answered
    }

    fn maxlen(&mut self, arguments: &[Vec<u8>]) -> Action {
        let answer = match arguments.first().map(|argument| parse_i64(argument)) {
            None => format!("Current maxlen is {}", self.length),
            Some(Some(length @ 0..)) => {
                self.is_hinted = true;
                self.length = if length == 0 { 0 } else { (length as usize).max(LEAST_LENGTH) };
                match self.length {
                    0 => "<value> replies are not truncated.".into(),
                    length => format!("<value> replies are truncated at {length} bytes."),
                }
            }
            Some(_) => "<error> Invalid maxlen value.".into(),
        };
        self.show(answer.into_bytes());
        Action::Answered
    }

    fn help(&mut self) -> Action {
        self.show(b"The commands of the debugger:".to_vec());
        for Known { name, short, parameters, help, .. } in KNOWN {
            let Some(help) = help else { continue };
            let mut start = format!("[{short}]{}{parameters}", &name[short.len()..]);
            for text in wrapped(help, HELP_TEXT) {
                self.show(format!("{start:HELP_NAMES$}{text}").into_bytes());
                start.clear();
            }
        }
        Action::Answered
    }
}

/// A text as lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// The number at the start of a text, as C reads it; 0 if there is none.
fn leading_number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (is_negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        _ => (false, text),
    };
    let number = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if is_negative { -number } else { number }
}
