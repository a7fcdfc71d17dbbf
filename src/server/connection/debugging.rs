//! The connection of a person who debugs a script: what they send are commands of the debugger until the script is over.
//!
//! Invariants: while the script is stopped the task waits for the client, for what others want of the script, and for the
//! time at which others are to be answered BUSY, all at once; a client that goes ends its session.

use std::future::poll_fn;
use std::task::Poll;

use super::super::execute::{Executor, Held};
use super::super::lazy_free;
use super::super::reactor::Reactor;
use super::super::script::debugged::{Debugged, Step};
use super::super::table::Entry;
use super::{Connection, Home, Wake};
use crate::command::Args;
use crate::protocol::request::{Limits, Parsed, RequestParser};
use crate::scripting::DebugCommand;

/// The most bytes of commands that wait, and the most arguments of one.
const MOST_BYTES: usize = 1 << 20;
const MOST_ARGUMENTS: usize = 1024;

const PROTOCOL_ERROR: &str = "ERR protocol error";
const TOO_MUCH: &str = "ERR max client buffer reached";

impl Connection {
    /// Goes on with a session to its end.
    pub(super) async fn debug(
        &mut self,
        home: Home<'_>,
        mut executor: Executor<'_>,
        mut debugged: Box<Debugged>,
        entry: &'static Entry,
        args: &Args<'_>,
    ) {
        match debugged.take_copy() {
            None => {
                executor.make_durable();
                self.send();
                self.serve_debugger(&mut executor, &mut debugged, entry, args).await;
                executor.finish_batch();
            }
            Some(copy) => {
                executor.delete_expired_seen();
                executor.finish_batch();
                drop(executor);
                self.send();
                // What is counted there nobody sees.
                let reactor = Reactor::detached(home.server);
                let mut executor = Executor::on_private(home.server, &reactor, copy);
                executor.begin_unit();
                self.serve_debugger(&mut executor, &mut debugged, entry, args).await;
                if let Held::Private(core) = executor.into_held() {
                    lazy_free::drop_later(0, core);
                }
            }
        }
        self.timer = None;
        self.session.skipped();
    }

    async fn serve_debugger(
        &mut self,
        executor: &mut Executor<'_>,
        debugged: &mut Debugged,
        entry: &'static Entry,
        args: &Args<'_>,
    ) {
        let mut step = debugged.step(executor, &mut self.session, entry, args);
        while step != Step::Ended {
            let command = match step {
                Step::Stopped => self.next_debug_command(),
                Step::Running | Step::Ended => Ok(None),
            };
            let goes_on = step == Step::Running || matches!(command, Ok(Some(_)));
            let wake = if goes_on {
                tokio::task::yield_now().await;
                self.glance().await
            } else if command.is_ok() {
                let next_look = debugged.next_look(&self.server);
                self.timer = next_look.map(|patience| Box::pin(tokio::time::sleep(patience)));
                Some(poll_fn(|context| self.poll(context)).await)
            } else {
                None
            };
            match wake {
                Some(Wake::Read(count)) => self.received_while_debugging(count),
                Some(Wake::Close) => return debugged.leave(executor, &mut self.session),
                Some(Wake::Mail(_) | Wake::Timer) | None => {}
            }
            if self.over_limits() {
                self.session.client.close(super::Close::Now);
                return debugged.leave(executor, &mut self.session);
            }
            let command = if self.input.len() > MOST_BYTES { Err(TOO_MUCH) } else { command };
            step = match command {
                Ok(Some(command)) => {
                    debugged.tell(command);
                    debugged.step(executor, &mut self.session, entry, args)
                }
                Ok(None) if goes_on => debugged.step(executor, &mut self.session, entry, args),
                Ok(None) => debugged.look(executor, &mut self.session, entry, args),
                Err(message) => debugged.give_up(executor, &mut self.session, entry, args, message),
            };
        }
    }

    /// Sends what there is to be sent, and looks whether anything has come, without waiting for it.
    async fn glance(&mut self) -> Option<Wake> {
        poll_fn(|context| match self.poll(context) {
            Poll::Ready(wake) => Poll::Ready(Some(wake)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Bytes arrived at the start of the reactor's buffer. They are not looked at before the script stops.
    fn received_while_debugging(&mut self, count: usize) {
        self.count_received(count);
        let bytes = self.reactor.read_buffer();
        self.input.extend_from_slice(&bytes[..count]);
    }

    /// Takes the next whole command from what was received; the error is the message with which the script is ended.
    fn next_debug_command(&mut self) -> Result<Option<DebugCommand>, &'static str> {
        let limits = Limits::client(MOST_BYTES as u64);
        let mut parser = RequestParser::new();
        let command = loop {
            self.arguments.clear();
            match parser.next(&mut self.input, &limits, &mut self.arguments) {
                Ok(Parsed::Request { arguments: 0..=MOST_ARGUMENTS }) => {
                    let arguments = self.arguments.iter();
                    break Some(arguments.map(|argument| argument.of(&self.input).to_vec()).collect());
                }
                Ok(Parsed::Nothing | Parsed::EmptyLine) => {}
                Ok(Parsed::Incomplete { .. }) => break None,
                Ok(Parsed::Request { .. }) | Err(_) => return Err(PROTOCOL_ERROR),
            }
        };
        self.input.drain(..parser.consumed());
        Ok(command)
    }
}
