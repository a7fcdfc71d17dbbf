//! A stack of its own for each running script, so that it can be left in the middle and gone on with later, or
//! never. Knows nothing of Lua.
//!
//! Invariants: a fiber runs one body after the other and never ends; while it is suspended nothing on its stack
//! has a destructor, so that it can be abandoned by forgetting its stack.

use std::convert::Infallible;
use std::io;
use std::ptr::NonNull;

use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// The size of a script's stack. Lua nests at most 200 C calls of about 10 KB each; the rest is for commands.
pub(super) const STACK_BYTES: usize = 4 << 20;

/// What must be free on the stack when a command starts.
const RESERVE_BYTES: usize = 512 << 10;

/// Why a fiber came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The body is done; the next resumption starts it anew.
    Finished,
    /// The slice is over; the next resumption goes on.
    SliceEnded,
    /// The script used too much memory, and must be abandoned.
    MemoryExceeded,
    /// The host panicked, and the script must be abandoned.
    HostPanicked,
}

/// How the code on a fiber's stack suspends it. Lives on that stack.
pub(super) type Suspender = Yielder<(), Event>;

pub(super) struct Fiber {
    coroutine: Coroutine<(), Event, Infallible, DefaultStack>,
    floor: usize,
}

/// What the fiber needs of the value it works on.
///
/// # Safety
/// `run` leaves nothing with a destructor on the stack where it suspends.
pub(super) unsafe trait Body {
    /// Called once, before the first run.
    ///
    /// # Safety
    /// `this` is live; `suspender` may be used on the fiber's stack only.
    unsafe fn started(this: NonNull<Self>, suspender: *const Suspender);

    /// One run. May suspend through the suspender any number of times.
    ///
    /// # Safety
    /// `this` is live; called on the fiber's stack.
    unsafe fn run(this: NonNull<Self>);
}

impl Fiber {
    /// A fiber that will run `body` again and again.
    ///
    /// # Safety
    /// `body` outlives the fiber, and is not accessed elsewhere while the fiber runs.
    pub(super) unsafe fn new<B: Body + 'static>(stack: DefaultStack, body: NonNull<B>) -> Self {
        let floor = stack.limit().get() + RESERVE_BYTES;
        let coroutine = Coroutine::with_stack(stack, move |suspender: &Suspender, ()| -> Infallible {
            // SAFETY: passed on to the caller; the suspender lives as long as this stack.
            unsafe { B::started(body, suspender) };
            loop {
                // SAFETY: passed on to the caller.
                unsafe { B::run(body) };
                suspender.suspend(Event::Finished);
            }
        });
        Fiber { coroutine, floor }
    }

    /// A fresh stack with a guard page.
    pub(super) fn new_stack() -> io::Result<DefaultStack> {
        DefaultStack::new(STACK_BYTES)
    }

    /// Below this address too little of the stack is left to start a command.
    pub(super) fn floor(&self) -> usize {
        self.floor
    }

    /// Goes on where the fiber was left.
    pub(super) fn resume(&mut self) -> Event {
        match self.coroutine.resume(()) {
            CoroutineResult::Yield(event) => event,
            CoroutineResult::Return(never) => match never {},
        }
    }

    /// Forgets what was running, and takes the stack back.
    pub(super) fn abandon(mut self) -> DefaultStack {
        // SAFETY: by the invariant of this module nothing on the stack has a destructor.
        unsafe { self.coroutine.force_reset() };
        self.coroutine.into_stack()
    }
}
