//! The bundled scripts, which `--script` and `require` know by name.

use std::sync::LazyLock;

use super::sandbox::Bundled;

/// The policy that `run` has without `--script`.
pub const DEFAULT: &str = "register";

/// The policy that `discover` has without `--script`.
pub const DISCOVER: &str = "discover";

macro_rules! bundled {
    ($name:expr, $file:literal) => {
        Bundled {
            name: $name,
            file: $file,
            text: include_str!(concat!("../../", $file)),
        }
    };
}

/// A script with a dot in its name is a part of a policy.
pub static SCRIPTS: [Bundled; 8] = [
    bundled!(DEFAULT, "scripts/register.lua"),
    bundled!("coredns", "scripts/layouts/coredns.lua"),
    bundled!("docker_discover", "scripts/layouts/docker_discover.lua"),
    bundled!("go_zero", "scripts/layouts/go_zero.lua"),
    bundled!("grpc", "scripts/layouts/grpc.lua"),
    bundled!("registrator", "scripts/layouts/registrator.lua"),
    bundled!("traefik", "scripts/layouts/traefik.lua"),
    bundled!("register.checks", "scripts/checks.lua"),
];

/// The scripts of a reading policy.
pub static READING_SCRIPTS: [Bundled; 8] = [
    bundled!(DISCOVER, "scripts/discover.lua"),
    bundled!("haproxy", "scripts/proxies/haproxy.lua"),
    bundled!("nginx", "scripts/proxies/nginx.lua"),
    bundled!("nginx.defaults", "scripts/proxies/nginx/defaults.lua"),
    bundled!("envoy", "scripts/proxies/envoy.lua"),
    bundled!("envoy.resources", "scripts/proxies/envoy/resources.lua"),
    bundled!("file_sd", "scripts/proxies/file_sd.lua"),
    bundled!("hosts", "scripts/proxies/hosts.lua"),
];

/// The scripts of all roles, for tests.
pub static ALL_SCRIPTS: LazyLock<Vec<Bundled>> =
    LazyLock::new(|| SCRIPTS.into_iter().chain(READING_SCRIPTS).collect());
