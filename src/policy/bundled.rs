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
    bundled!("coredns", "scripts/layouts/coredns.lua"),
    bundled!("docker_discover", "scripts/layouts/docker_discover.lua"),
    bundled!("go_zero", "scripts/layouts/go_zero.lua"),
    bundled!("grpc", "scripts/layouts/grpc.lua"),
    bundled!("registrator", "scripts/layouts/registrator.lua"),
    bundled!("traefik", "scripts/layouts/traefik.lua"),
];
