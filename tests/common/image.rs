//! Docker images that a test builds and removes.

use super::{TestBed, UNPOISONED};
use std::process::Command;

impl TestBed {
    /// Builds the image of the program, as `make image` does, and returns its name. It is removed with the test bed.
    pub fn register_image(&self) -> String {
        let program = env!("CARGO_BIN_EXE_docker-register");
        self.image("register", |image| {
            ["register", program, image].map(str::to_owned).to_vec()
        })
    }

    /// Builds the image of the reading role, with this machine's HAProxy, and returns its name. It is removed with the
    /// test bed.
    pub fn discover_image(&self) -> String {
        let program = env!("CARGO_BIN_EXE_docker-register");
        self.image("discover", |image| {
            ["discover", program, image].map(str::to_owned).to_vec()
        })
    }

    /// Builds an image with programs of this machine, and returns its name. It is removed with the test bed.
    pub fn program_image(&self, programs: &[&str]) -> String {
        self.image("programs", |image| {
            let args = ["programs", image].into_iter();
            args.chain(programs.iter().copied())
                .map(str::to_owned)
                .collect()
        })
    }

    /// Builds an image that runs a systemd, with this machine's `/usr` mounted, and returns its name. It is removed
    /// with the test bed.
    pub fn systemd_image(&self) -> String {
        self.image("systemd", |image| {
            ["systemd", image].map(str::to_owned).to_vec()
        })
    }

    #[track_caller]
    fn image(&self, name: &str, args: impl FnOnce(&str) -> Vec<String>) -> String {
        let image = format!("docker-register-test/{}-{name}", self.name);
        self.images.lock().expect(UNPOISONED).push(image.clone());
        let built = Command::new("bash")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/image.sh"))
            .args(args(&image))
            .output()
            .expect("`bash` can be run");
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "the image cannot be built: {said}");
        image
    }
}
