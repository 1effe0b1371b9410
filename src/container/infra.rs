//! Infra containers: those that only hold the network of a pod, and serve nothing.

use super::reply::{Config, Reply};

/// Images whose only purpose this is. Some registries have one name for each architecture.
const IMAGES: [&str; 4] = [
    "pause",
    "podman-pause",
    "amazon-ecs-pause",
    "pod-infrastructure",
];
const ARCHITECTURES: [&str; 6] = ["amd64", "arm", "arm64", "ppc64le", "s390x", "windows"];
/// Labels with which Kubernetes, CRI-O, containerd and ECS mark them. Podman 1 gives every container the third one, but
/// as an annotation.
const LABELS: [(&str, &str); 5] = [
    ("io.kubernetes.docker.type", "podsandbox"),
    ("io.kubernetes.container.name", "POD"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
    ("io.cri-containerd.kind", "sandbox"),
    ("com.amazonaws.ecs.container-name", "~internal~ecs~pause"),
];

/// Why a container counts as one; none if it does not. `image` is its image's name, if it has one.
pub fn reason(reply: &Reply, image: Option<&str>) -> Option<String> {
    let config = reply.config.as_ref();
    if let Some(image) = image.filter(|image| is_pause(image)) {
        return Some(format!("its image is `{image}`"));
    }
    if let Some((name, value)) = config.and_then(mark) {
        return Some(format!("it is labelled {name}={value}"));
    }
    let has = |text: Option<&String>| text.is_some_and(|text| !text.is_empty());
    let named = config.and_then(|config| config.image.as_ref());
    if config.is_some() && !has(named) && !has(reply.image.as_ref()) {
        return Some("it has no image".to_owned());
    }
    let name = reply.name.as_deref().unwrap_or_default();
    let path = reply.path.0.as_deref().unwrap_or_default();
    if reply.is_infra.0 == Some(true) {
        return Some("Podman says so".to_owned());
    }
    (name.ends_with("-infra") && matches!(path, "/catatonit" | "/pause"))
        .then(|| format!("it runs `{path}`"))
}

fn is_pause(image: &str) -> bool {
    let of_architecture = image
        .strip_prefix("pause-")
        .is_some_and(|rest| ARCHITECTURES.contains(&rest));
    IMAGES.contains(&image) || of_architecture
}

fn mark(config: &Config) -> Option<(&'static str, &'static str)> {
    LABELS.into_iter().find(|(name, value)| {
        let mut labels = config.labels.0.iter();
        labels.any(|(label, text)| label == name && text.0 == *value)
    })
}
