//! The `understudy` binary: hands the command line to the library and exits with its status.

use std::process::ExitCode;

use understudy::server::command_line;
use understudy::server::start;
use understudy::server::users::UserLines;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    command_line::run(&arguments, &mut UserLines::default(), start::serve)
}
