//! Docker's events, reduced to the fields that this program acts on. They are read here; [`super::host`] acts on them.

use serde::Deserialize;

use crate::container::{Loose, Members, Text, decode};

/// The part of a message that is used.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Message {
    #[serde(rename = "Type")]
    kind: Loose<String>,
    action: Loose<String>,
    actor: Loose<Actor>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: Option<String>,
    #[serde(rename = "Attributes")]
    attributes: Loose<Members<Text>>,
}

/// An event about a container, or about its place in a network.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Docker's word, such as `start` or `health_status: healthy`.
    pub action: String,
    /// The id of the container.
    pub id: String,
    /// The number of the signal that was sent; empty for other actions.
    pub signal: String,
}

impl Event {
    /// Reads a message. None if it names no container.
    pub fn read(message: &str) -> anyhow::Result<Option<Self>> {
        let message: Message = decode(message.as_bytes())?;
        let actor = message.actor.0.unwrap_or_default();
        let attributes = actor.attributes.0.unwrap_or_default().0;
        let attribute = |wanted: &str| {
            let mut all = attributes.iter();
            all.find(|(name, _)| name == wanted)
                .map(|(_, text)| text.0.clone())
        };
        let id = match message.kind.0.as_deref() {
            Some("container") => actor.id,
            // Docker's actor is the network here, Podman's the container.
            Some("network") => attribute("container").or(actor.id),
            _ => None,
        };
        Ok(id.map(|id| Self {
            action: message.action.0.unwrap_or_default(),
            id,
            signal: attribute("signal").unwrap_or_default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(message: &Value) -> Option<[String; 3]> {
        let event = Event::read(&message.to_string()).expect("a message")?;
        Some([event.action, event.id, event.signal])
    }

    #[test]
    fn an_event_of_a_network_names_its_container_as_docker_and_as_podman_do() {
        for actor in [
            json!({ "ID": "net", "Attributes": { "container": "a", "name": "bridge" } }),
            json!({ "ID": "a", "Attributes": { "name": "bridge" } }),
        ] {
            let message = json!({ "Type": "network", "Action": "connect", "Actor": actor });
            let event = read(&message).expect("an event");
            assert_eq!(event, ["connect", "a", ""]);
        }
    }

    #[test]
    fn an_event_has_a_signal_if_one_was_sent_and_is_none_without_a_container() {
        let actor = json!({ "ID": "a", "Attributes": { "signal": "15", "image": "web" } });
        let message = json!({ "Type": "container", "Action": "kill", "Actor": actor });
        assert_eq!(read(&message).expect("an event"), ["kill", "a", "15"]);
        for message in [
            json!({ "Type": "image", "Action": "pull", "Actor": { "ID": "web" } }),
            json!({ "Type": "container", "Action": "kill" }),
            json!({ "Action": "kill", "Actor": { "ID": "a" } }),
        ] {
            assert_eq!(read(&message), None, "{message}");
        }
    }
}
