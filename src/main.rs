//! The `understudy` binary: hands the command line to the library and exits with its status.

use std::process::ExitCode;

use understudy::server::Server;
use understudy::server::config::{Accept, Config, Source};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let options: String = std::env::args().skip(1).map(|arg| arg.replace("--", "\n") + " ").collect();
    let mut config = Config::default();
    let source = Source { file: None, stdin: None, options: options.as_bytes() };
    if let Err(error) = config.load(&source, &mut Accept) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match Server::new(config).and_then(Server::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
