//! The program `docker-register`. All of it is in the library beside this file, so that benchmarks reach it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    docker_register::main()
}
