//! The lists of one session: which of them is a full look, and whether events still arrive between them.

/// The number of lists per full look, which inspects all containers. After any other list, only containers whose entry
/// has changed are inspected: an inspection costs far more than a list, and hardly any change shows neither in an event
/// nor in a list.
const LISTS_TO_A_FULL_LOOK: u32 = 10;

/// How far a session is with its lists.
#[derive(Default)]
pub struct Lists {
    /// Whether Docker has answered one in this session.
    pub answered: bool,
    /// Whether one is under way.
    pub pending: bool,
    /// Whether an event has come since the last one was asked for.
    pub heard_event: bool,
    /// How many are left before the next full look. The first of a session is one, because anything may have happened
    /// without a connection.
    left: u32,
}

impl Lists {
    /// Notes that a list is asked for.
    pub fn begin(&mut self) {
        self.pending = true;
        self.heard_event = false;
    }

    /// Notes the answer. Returns whether all containers are to be inspected.
    pub fn end(&mut self) -> bool {
        self.pending = false;
        self.answered = true;
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(LISTS_TO_A_FULL_LOOK - 1);
        left.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_list_and_every_tenth_after_it_is_a_full_look() {
        let mut lists = Lists::default();
        let full: Vec<usize> = (0..31).filter(|_| lists.end()).collect();
        assert_eq!(full, [0, 10, 20, 30]);
    }
}
