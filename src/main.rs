//! The program `docker-register`. Its code is in the library, so that benchmarks can call it too.

use std::process::ExitCode;

fn main() -> ExitCode {
    docker_register::main()
}
