//! The bundled scripts, which `--script` and `require` know by name.

/// The policy that runs without `--script`.
pub const DEFAULT: &str = "register";

pub struct Bundled {
    name: &'static str,
    /// Where its source is; messages name it.
    pub file: &'static str,
    pub text: &'static str,
}

macro_rules! bundled {
    ($name:expr, $file:literal) => {
        Bundled {
            name: $name,
            file: $file,
            text: include_str!(concat!("../../", $file)),
        }
    };
}

static SCRIPTS: [Bundled; 7] = [
    bundled!(DEFAULT, "scripts/register.lua"),
    bundled!("coredns", "scripts/layouts/coredns.lua"),
    bundled!("docker_discover", "scripts/layouts/docker_discover.lua"),
    bundled!("go_zero", "scripts/layouts/go_zero.lua"),
    bundled!("grpc", "scripts/layouts/grpc.lua"),
    bundled!("registrator", "scripts/layouts/registrator.lua"),
    bundled!("traefik", "scripts/layouts/traefik.lua"),
];

pub fn find(name: &str) -> Option<&'static Bundled> {
    SCRIPTS.iter().find(|script| script.name == name)
}

/// All names, for messages.
pub fn names() -> String {
    SCRIPTS.each_ref().map(|script| script.name).join(", ")
}
