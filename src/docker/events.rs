//! Docker's events, reduced to the fields that this program acts on. They are read here; [`super::host`] acts on them.

use bollard::models::{EventMessage, EventMessageTypeEnum};

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
    /// None for a message that names no container.
    pub fn read(message: EventMessage) -> Option<Self> {
        let actor = message.actor.unwrap_or_default();
        let mut attributes = actor.attributes.unwrap_or_default();
        let id = match message.typ? {
            EventMessageTypeEnum::CONTAINER => actor.id,
            // Docker's actor is the network here, Podman's the container.
            EventMessageTypeEnum::NETWORK => attributes.remove("container").or(actor.id),
            _ => None,
        };
        Some(Self {
            action: message.action.unwrap_or_default(),
            id: id?,
            signal: attributes.remove("signal").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(message: Value) -> Option<[String; 3]> {
        let message = serde_json::from_value(message).expect("a message");
        let event = Event::read(message)?;
        Some([event.action, event.id, event.signal])
    }

    #[test]
    fn an_event_of_a_network_names_its_container_as_docker_and_as_podman_do() {
        for actor in [
            json!({ "ID": "net", "Attributes": { "container": "a", "name": "bridge" } }),
            json!({ "ID": "a", "Attributes": { "name": "bridge" } }),
        ] {
            let message = json!({ "Type": "network", "Action": "connect", "Actor": actor });
            let event = read(message).expect("an event");
            assert_eq!(event, ["connect", "a", ""]);
        }
    }

    #[test]
    fn an_event_has_a_signal_if_one_was_sent_and_is_none_without_a_container() {
        let actor = json!({ "ID": "a", "Attributes": { "signal": "15", "image": "web" } });
        let message = json!({ "Type": "container", "Action": "kill", "Actor": actor });
        assert_eq!(read(message).expect("an event"), ["kill", "a", "15"]);
        for message in [
            json!({ "Type": "image", "Action": "pull", "Actor": { "ID": "web" } }),
            json!({ "Type": "container", "Action": "kill" }),
            json!({ "Action": "kill", "Actor": { "ID": "a" } }),
        ] {
            assert_eq!(read(message.clone()), None, "{message}");
        }
    }
}
