//! Rise and fall: the verdict on a service from its last probes.

use super::Verdict;
use crate::wanted::Check;

/// The last results in a row.
#[derive(Debug, Default)]
pub(super) struct Tally {
    verdict: Option<bool>,
    last: bool,
    /// The number of results in a row that were as the last.
    in_a_row: u32,
}

impl Tally {
    /// One that fails until the first success.
    pub fn failing() -> Self {
        Self {
            verdict: Some(false),
            ..Self::default()
        }
    }

    /// Adds a result. Returns the verdict, whether the service passes, if it has changed.
    pub fn add(&mut self, passed: bool, check: &Check) -> Option<bool> {
        self.in_a_row = if passed == self.last {
            self.in_a_row.saturating_add(1)
        } else {
            1
        };
        self.last = passed;
        let needed = if passed { check.rise } else { check.fall };
        if self.in_a_row < needed || self.verdict == Some(passed) {
            return None;
        }
        self.verdict = Some(passed);
        self.verdict
    }

    pub fn verdict(&self) -> Verdict {
        match self.verdict {
            None => Verdict::Unproven,
            Some(true) => Verdict::Passes,
            Some(false) => Verdict::Fails,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::check;

    /// The verdicts after each of these results: `+` passes, `-` fails, `.` nothing new.
    fn verdicts(rise: u32, fall: u32, results: &str) -> String {
        let check = Check {
            rise,
            fall,
            ..check("a:1")
        };
        let mut tally = Tally::default();
        let verdict = |result| match tally.add(result == '+', &check) {
            None => '.',
            Some(true) => '+',
            Some(false) => '-',
        };
        results.chars().map(verdict).collect()
    }

    #[test]
    fn a_verdict_takes_results_in_a_row() {
        assert_eq!(verdicts(1, 3, "+--+---+-"), "+.....-+.");
        assert_eq!(verdicts(2, 1, "+-++-++"), ".-.+-.+");
        assert_eq!(verdicts(3, 2, "++-+++--"), ".....+.-");
        // Before the first verdict as well.
        assert_eq!(verdicts(1, 3, "--"), "..");
        assert_eq!(verdicts(2, 2, "+-+-+-"), "......");
    }
}
