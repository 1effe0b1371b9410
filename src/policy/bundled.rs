//! The bundled scripts, which `--script` and `require` know by name.

use super::sandbox::Bundled;

/// The policy that runs without `--script`.
pub const DEFAULT: &str = "register";

macro_rules! bundled {
    ($name:expr, $file:literal) => {
        Bundled {
            name: $name,
            file: $file,
            text: include_str!(concat!("../../", $file)),
        }
    };
}

pub static SCRIPTS: [Bundled; 7] = [
    bundled!(DEFAULT, "scripts/register.lua"),
    bundled!("coredns", "examples/coredns.lua"),
    bundled!("docker_discover", "examples/docker_discover.lua"),
    bundled!("go_zero", "examples/go_zero.lua"),
    bundled!("grpc", "examples/grpc.lua"),
    bundled!("registrator", "examples/registrator.lua"),
    bundled!("traefik", "examples/traefik.lua"),
];
